//! Which part of a night is ours, as typed or as the cluster says it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// More shards than this are a mistake.
const MOST: u32 = 100_000;

/// The variable that says how many shards there are where the cluster does not: Kubernetes tells an
/// indexed job's pod its index, and nothing of its `completions`.
pub const COUNT_VARIABLE: &str = "SELVEDGE_SHARDS";

/// One part of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard {
    /// Which, counted from 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

/// Why there is no telling which shard this is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShardError {
    /// It is no `K/N`.
    #[error("'{0}' is no shard: write K/N, as 3/8, with K from 1 to N, or auto")]
    Form(String),
    /// There are not so many.
    #[error("there is no shard {number} of {of}: K goes from 1 to N, and N from 1 to {MOST}")]
    Range {
        /// Which was asked for.
        number: u64,
        /// Of how many.
        of: u64,
    },
    /// No cluster says it.
    #[error(
        "--shard auto found none of SLURM_ARRAY_TASK_ID (a Slurm array), JOB_COMPLETION_INDEX (a \
         Kubernetes Indexed Job) and CI_NODE_INDEX (a CI matrix) in the environment; \
         outside of a cluster write --shard K/N"
    )]
    Nowhere,
    /// A variable is missing beside another.
    #[error("{index} is set and {missing} is not: {hint}")]
    Missing {
        /// The variable that is there.
        index: &'static str,
        /// The variable that is not.
        missing: &'static str,
        /// How it comes to be set.
        hint: &'static str,
    },
    /// A variable holds no number.
    #[error("{name} is '{value}', which is no whole number")]
    Number {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// A Slurm array with gaps.
    #[error(
        "SLURM_ARRAY_TASK_ID {id} is none of the {count} evenly spaced ids from {least} on: give the \
         array as one range (--array=0-7), or write --shard K/N"
    )]
    Array {
        /// The task's id.
        id: u64,
        /// The first task's.
        least: u64,
        /// How many tasks there are.
        count: u64,
    },
}

impl Shard {
    /// The only one.
    pub const WHOLE: Shard = Shard { number: 1, of: 1 };

    fn of(number: u64, of: u64) -> Result<Self, ShardError> {
        let wrong = ShardError::Range { number, of };
        let fits = number >= 1 && number <= of && of <= u64::from(MOST);
        match (u32::try_from(number), u32::try_from(of)) {
            (Ok(number), Ok(of)) if fits => Ok(Shard { number, of }),
            _ => Err(wrong),
        }
    }

    /// What a cluster says in its variables, the most particular first: a Slurm array's task, the
    /// pod of a Kubernetes Indexed Job, a job of a CI matrix.
    ///
    /// # Errors
    /// That none of them is there, or that what is there makes no shard.
    pub fn auto(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ShardError> {
        let number = |name: &'static str| match variable(name) {
            None => Ok(None),
            Some(value) => match value.trim().parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(ShardError::Number { name, value }),
            },
        };
        let beside = |index, missing, hint| -> Result<u64, ShardError> {
            number(missing)?.ok_or(ShardError::Missing {
                index,
                missing,
                hint,
            })
        };
        if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
            let index = "SLURM_ARRAY_TASK_ID";
            let hint = "Slurm sets both for each task of an array";
            let least = beside(index, "SLURM_ARRAY_TASK_MIN", hint)?;
            let count = beside(index, "SLURM_ARRAY_TASK_COUNT", hint)?;
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            let array = ShardError::Array { id, least, count };
            let before = match id.checked_sub(least) {
                Some(past) if past % step == 0 && past / step < count => past / step,
                _ => return Err(array),
            };
            return Shard::of(before + 1, count);
        }
        if let Some(index) = number("JOB_COMPLETION_INDEX")? {
            let hint = "give the pod the job's `completions` in it, as the manifest does";
            let count = beside("JOB_COMPLETION_INDEX", COUNT_VARIABLE, hint)?;
            return Shard::of(index.saturating_add(1), count);
        }
        if let Some(number) = number("CI_NODE_INDEX")? {
            let hint = "it is the number of jobs, and CI_NODE_INDEX goes from 1 to it";
            let count = beside("CI_NODE_INDEX", "CI_NODE_TOTAL", hint)?;
            return Shard::of(number, count);
        }
        Err(ShardError::Nowhere)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let form = || ShardError::Form(text.to_owned());
        let (number, of) = text.split_once('/').ok_or_else(form)?;
        let part = |text: &str| text.parse::<u64>().map_err(|_| form());
        Shard::of(part(number)?, part(of)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(variables: &[(&str, &str)]) -> Result<Shard, ShardError> {
        Shard::auto(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_shard_is_typed_as_k_of_n() {
        assert_eq!("3/8".parse(), Ok(Shard { number: 3, of: 8 }));
        assert_eq!("1/1".parse(), Ok(Shard::WHOLE));
        for text in [
            "9/8",
            "0/4",
            "1/0",
            "0/0",
            "1/100001",
            "5000000000/5000000000",
        ] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(matches!(error, ShardError::Range { .. }), "{text}: {error}");
        }
        for text in ["", "3", "3/", "/8", "-1/8", "a/b", "3/8/2", "3 / 8"] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(matches!(error, ShardError::Form(_)), "{text}: {error}");
        }
    }

    #[test]
    fn slurm_says_it_by_array_whatever_its_first_id_and_its_step() {
        let slurm = |id, least, count, step| {
            auto(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", least),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_STEP", step),
            ])
        };
        assert_eq!(slurm("0", "0", "8", "1"), Ok(Shard { number: 1, of: 8 }));
        assert_eq!(slurm("17", "10", "8", "1"), Ok(Shard { number: 8, of: 8 }));
        assert_eq!(slurm("6", "2", "4", "2"), Ok(Shard { number: 3, of: 4 }));
        for (id, least, count, step) in [
            ("8", "0", "8", "1"),
            ("1", "2", "8", "1"),
            ("3", "0", "4", "2"),
        ] {
            let error = slurm(id, least, count, step).unwrap_err();
            assert!(matches!(error, ShardError::Array { .. }), "{error}");
        }
        let error = auto(&[("SLURM_ARRAY_TASK_ID", "1")]).unwrap_err();
        assert!(error.to_string().contains("SLURM_ARRAY_TASK_MIN is not"));
    }

    #[test]
    fn kubernetes_and_ci_say_it_by_index_and_count() {
        let shard = Ok(Shard { number: 8, of: 8 });
        let pod = [("JOB_COMPLETION_INDEX", "7"), (COUNT_VARIABLE, "8")];
        assert_eq!(auto(&pod), shard);
        let job = [("CI_NODE_INDEX", "8"), ("CI_NODE_TOTAL", "8")];
        assert_eq!(auto(&job), shard);
        // A batch system started by a CI job knows better.
        assert_eq!(auto(&[&pod[..], &[("CI_NODE_INDEX", "1")]].concat()), shard);
        for (variables, said) in [
            (&pod[..1], "SELVEDGE_SHARDS is not"),
            (&job[..1], "CI_NODE_TOTAL is not"),
            (&[("CI_NODE_INDEX", "x"), ("CI_NODE_TOTAL", "8")], "'x'"),
            (
                &[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "8")],
                "shard 0 of 8",
            ),
            (
                &[("JOB_COMPLETION_INDEX", "8"), (COUNT_VARIABLE, "8")],
                "shard 9 of 8",
            ),
            (&[], "SLURM_ARRAY_TASK_ID"),
        ] {
            let error = auto(variables).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
