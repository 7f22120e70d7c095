//! Puts the pieces of a unit together again. **The result hangs on the pieces and on nothing
//! else**: not on who ran them, nor on the order in which they come.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_sim::Class;

use super::Ran;

/// A unit's pieces, put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The unit as a whole. A violation's executions are those up to it, interval by interval.
    pub ran: Ran,
    /// Executions of all its pieces, those after a violation included.
    pub explored: u64,
    /// How many of its pieces there are.
    pub pieces: u32,
    /// Signatures that other pieces failed by.
    pub others: Vec<String>,
}

/// Of two records of the same piece, the one that counts: one that was not cut short before one
/// that was, else the one that came further. Of two alike, the first.
#[must_use]
pub fn better(one: Ran, other: Ran) -> Ran {
    let rank = |ran: &Ran| (!ran.was_cut(), ran.was_cut().then_some(ran.executions));
    match rank(&other) > rank(&one) {
        true => other,
        false => one,
    }
}

/// Puts the pieces that there are of a unit together. `None` if there are none.
///
/// What is worst counts: a violation that is none of the `expected` signatures, then a failure of
/// the engine, then a violation that is, then a search that was cut short.
#[must_use]
pub fn join(mut pieces: Vec<Ran>, expected: Option<&str>) -> Option<Joined> {
    pieces.sort_by_key(|ran| ran.interval);
    let signature = |ran: &Ran| ran.failure.as_ref().map(|f| f.signature.clone());
    let rank = |ran: &Ran| match ran.class() {
        Class::Violated if signature(ran).as_deref() != expected => 0,
        Class::EngineError => 1,
        Class::Violated => 2,
        Class::BudgetEnded => 3,
        _ => 4,
    };
    // Of several that are as bad, the first.
    let (worst, ran) = pieces
        .iter()
        .enumerate()
        .min_by_key(|(at, ran)| (rank(ran), *at))?;
    let explored = sum(&pieces);
    let failed = signature(ran);
    let others: BTreeSet<String> = pieces.iter().filter_map(signature).collect();
    let others = others
        .into_iter()
        .filter(|other| Some(other) != failed.as_ref());
    let all = |of: fn(&Ran) -> &Vec<String>| {
        let all: BTreeSet<&String> = pieces.iter().flat_map(of).collect();
        all.into_iter().cloned().collect::<Vec<String>>()
    };
    let joined = Ran {
        interval: 0,
        executions: match ran.class() {
            Class::Violated => sum(&pieces[..=worst]),
            _ => explored,
        },
        scope: match ran.class() {
            Class::Sampled => scopes(&pieces),
            _ => ran.scope.clone(),
        },
        reached: all(|ran| &ran.reached),
        observations: all(|ran| &ran.observations),
        more_observations: pieces.iter().any(|ran| ran.more_observations),
        took_ms: pieces.iter().map(|ran| ran.took_ms).sum(),
        ..ran.clone()
    };
    Some(Joined {
        ran: joined,
        explored,
        others: others.collect(),
        pieces: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
    })
}

fn sum(pieces: &[Ran]) -> u64 {
    (pieces.iter()).fold(0, |sum, ran| sum.saturating_add(ran.executions))
}

/// How all pieces drew, those that drew alike counted.
fn scopes(pieces: &[Ran]) -> String {
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for ran in pieces {
        *counted.entry(&ran.scope).or_default() += 1;
    }
    let each = counted.into_iter().map(|(scope, count)| match count {
        1 => scope.to_owned(),
        _ => format!("{count} x ({scope})"),
    });
    each.collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, ran};
    use super::*;

    #[test]
    fn whatever_order_the_pieces_come_in_the_unit_is_the_same() {
        let mut pieces = vec![
            Ran {
                reached: vec!["b".to_owned()],
                ..ran(0, 6)
            },
            ran(1, 6),
            failed(2, 4, "lost"),
            failed(3, 1, "lost"),
            Ran {
                reached: vec!["a".to_owned()],
                ..ran(4, 6)
            },
        ];
        let first = join(pieces.clone(), Some("lost")).unwrap();
        assert_eq!((first.ran.executions, first.explored), (6 + 6 + 4, 23));
        assert_eq!(first.ran.reached, ["a", "b"]);
        assert_eq!(first.ran.seed.as_deref(), Some("seed-of-lost-2"));
        assert!(first.others.is_empty());
        for _ in 0..pieces.len() {
            pieces.rotate_left(1);
            assert_eq!(join(pieces.clone(), Some("lost")).as_ref(), Some(&first));
        }
        pieces.reverse();
        assert_eq!(join(pieces, Some("lost")), Some(first));
        assert_eq!(join(Vec::new(), None), None);
    }

    #[test]
    fn the_worst_piece_is_the_units_verdict() {
        let cut = Ran {
            verdict: "BudgetEnded".to_owned(),
            ..ran(0, 2)
        };
        let broken = Ran {
            verdict: "EngineError".to_owned(),
            scope: "it died".to_owned(),
            ..ran(1, 3)
        };
        let (right, wrong) = (failed(2, 1, "lost"), failed(3, 1, "found"));
        let of = |pieces: &[&Ran]| {
            let pieces = pieces.iter().map(|ran| (*ran).clone()).collect();
            join(pieces, Some("lost")).unwrap()
        };
        assert_eq!(of(&[&ran(4, 6), &cut]).ran.class(), Class::BudgetEnded);
        assert_eq!(of(&[&right, &cut]).ran.class(), Class::Violated);
        assert_eq!(of(&[&cut, &broken, &right]).ran.scope, "it died");
        let all = of(&[&cut, &broken, &right, &wrong]);
        assert_eq!(all.ran.failure.unwrap().signature, "found");
        assert_eq!(all.others, ["lost"]);
        assert_eq!(all.explored, 7);
    }

    #[test]
    fn how_all_of_them_drew_is_told_short() {
        let other = Ran {
            scope: "3 random".to_owned(),
            ..ran(2, 3)
        };
        let joined = join(vec![ran(0, 6), ran(1, 6), other], None).unwrap();
        assert_eq!(
            joined.ran.scope,
            "2 x (2 random + 2 PCT + 2 URW; SC) and 3 random"
        );
    }

    #[test]
    fn a_piece_that_was_run_to_its_end_counts_before_one_that_was_not() {
        let cut = |executions| Ran {
            verdict: "BudgetEnded".to_owned(),
            ..ran(0, executions)
        };
        assert_eq!(better(cut(9), ran(0, 6)), ran(0, 6));
        assert_eq!(better(ran(0, 6), cut(9)), ran(0, 6));
        assert_eq!(better(cut(2), cut(9)), cut(9));
        assert_eq!(better(cut(9), cut(2)), cut(9));
        // Real threads do not the same twice: what was written first stays.
        let late = Ran {
            took_ms: 99,
            ..ran(0, 6)
        };
        assert_eq!(better(ran(0, 6), late), ran(0, 6));
    }
}
