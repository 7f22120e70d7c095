//! The choices of a body under an engine that explores schedules only: all combinations, one
//! after the other, each with a whole search of its own.
//!
//! A choice is known by the task that makes it and by which of the task's choices it is, so
//! that what is taken does not depend on the schedule: else an engine that takes two steps for
//! independent, and so tries them in one order only, would be wrong.

use crate::Choice;

/// The combination under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Odometer {
    /// In the order in which they were first met; the last one turns fastest.
    places: Vec<Place>,
    /// How many choices each task made in this execution.
    made: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    choice: Choice,
    /// The most ways there were here.
    ways: u32,
}

impl Odometer {
    /// The combination that was taken down, whatever there is past it.
    pub(crate) fn at(choices: &[Choice]) -> Self {
        let place = |&choice: &Choice| Place {
            choice,
            ways: choice.taken + 1,
        };
        Odometer {
            places: choices.iter().map(place).collect(),
            made: Vec::new(),
        }
    }

    /// A new execution begins.
    pub(crate) fn begin(&mut self) {
        self.made.clear();
    }

    /// What the task takes of so many ways.
    pub(crate) fn take(&mut self, task: u32, ways: u32) -> u32 {
        let ordinal = match self.made.iter_mut().find(|(by, _)| *by == task) {
            Some((_, made)) => {
                *made += 1;
                *made - 1
            }
            None => {
                self.made.push((task, 1));
                0
            }
        };
        let known = (self.places.iter_mut())
            .find(|place| (place.choice.task, place.choice.ordinal) == (task, ordinal));
        match known {
            Some(place) => {
                place.ways = place.ways.max(ways);
                // Elsewhere there were more ways: what is taken here comes twice.
                place.choice.taken % ways
            }
            None => {
                self.places.push(Place {
                    choice: Choice {
                        task,
                        ordinal,
                        taken: 0,
                    },
                    ways,
                });
                0
            }
        }
    }

    /// Goes on to the next combination; whether there is one. Choices after the one that
    /// turns may not be there any more, and are met anew.
    pub(crate) fn advance(&mut self) -> bool {
        while let Some(mut place) = self.places.pop() {
            place.choice.taken += 1;
            if place.choice.taken < place.ways {
                self.places.push(place);
                return true;
            }
        }
        false
    }

    /// The combination, to be taken down.
    pub(crate) fn choices(&self) -> Vec<Choice> {
        self.places.iter().map(|place| place.choice).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_comes_once() {
        let mut odometer = Odometer::default();
        let mut seen = Vec::new();
        loop {
            odometer.begin();
            // How many ways the second choice has, and whether there is one, the first says.
            let first = odometer.take(7, 3);
            let second = if first > 0 {
                odometer.take(7, first + 1)
            } else {
                9
            };
            seen.push((first, second, odometer.take(2, 2)));
            if !odometer.advance() {
                break;
            }
        }
        let mut expected = vec![(0, 9, 0), (0, 9, 1)];
        for (first, seconds) in [(1, 2), (2, 3)] {
            for second in 0..seconds {
                expected.extend([(first, second, 0), (first, second, 1)]);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_was_taken_down_is_taken_again_in_any_order() {
        let mut odometer = Odometer::default();
        let mut took = Vec::new();
        while took != [1, 0, 2] {
            odometer.begin();
            took = vec![
                odometer.take(0, 2),
                odometer.take(1, 2),
                odometer.take(0, 3),
            ];
            if took != [1, 0, 2] {
                assert!(odometer.advance());
            }
        }
        let mut again = Odometer::at(&odometer.choices());
        again.begin();
        let other_first = [again.take(1, 2), again.take(0, 2), again.take(0, 3)];
        assert_eq!(other_first, [0, 1, 2]);
    }
}
