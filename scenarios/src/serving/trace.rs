//! A request trace, as Mooncake publishes them: one JSON object a line.
//!
//! | field | meaning |
//! |---|---|
//! | `timestamp` | when the request came, in milliseconds |
//! | `input_length` | tokens of its prompt, at least 1 |
//! | `output_length` | tokens it generated, at least 1 |
//! | `hash_ids` | an id for each 512 tokens of the prompt, the last perhaps fewer: equal ids, equal content |

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use thiserror::Error;

/// Tokens that one id stands for.
pub const TOKENS_PER_ID: u32 = 512;

/// The longest prompt or answer that is taken for one: beyond it, a line is a mistake.
pub const MOST_TOKENS: u32 = 1 << 24;

/// The longest line in bytes: room for a million ids.
const MOST_BYTES: u64 = 16 << 20;

/// One request of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// When it came, in milliseconds.
    pub timestamp: u64,
    /// Tokens of its prompt.
    pub input_length: u32,
    /// Tokens it generates.
    pub output_length: u32,
    /// What its prompt consists of, 512 tokens each.
    pub hash_ids: Vec<u64>,
}

impl Request {
    /// Its prompt, token by token. Equal ids give equal tokens.
    ///
    /// ```
    /// use selvedge_scenarios::serving::Request;
    ///
    /// let of = |hash_ids| Request { timestamp: 0, input_length: 600, output_length: 1, hash_ids };
    /// let (a, b) = (of(vec![1, 2]).prompt(), of(vec![1, 3]).prompt());
    /// assert_eq!((a.len(), &a[..512] == &b[..512], a[512] == b[512]), (600, true, false));
    /// ```
    #[must_use]
    pub fn prompt(&self) -> Vec<u32> {
        (0..self.input_length)
            .map(|at| {
                let id = self.hash_ids[(at / TOKENS_PER_ID) as usize];
                token(id, at % TOKENS_PER_ID)
            })
            .collect()
    }
}

/// The token at a place of the 512 that an id stands for. Small ids never share a token.
fn token(id: u64, at: u32) -> u32 {
    let folded = (id ^ (id >> 23).wrapping_mul(0x9e37_79b9_7f4a_7c15)) & ((1 << 23) - 1);
    u32::try_from(folded).unwrap_or(0) * TOKENS_PER_ID + at
}

/// What a file held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The requests, by time.
    pub requests: Vec<Request>,
    /// Lines that were none, if they were to be skipped.
    pub bad: Vec<BadLine>,
}

impl Trace {
    /// Reads a trace. Empty lines are nothing. Requests need not be in the order of time.
    ///
    /// ```
    /// use selvedge_scenarios::serving::Trace;
    ///
    /// let right = r#"{"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [7, 8]}"#;
    /// let text = format!("{right}\n{}", right.replace("7, 8", "7"));
    /// let wrong = Trace::read(text.as_bytes(), false).unwrap_err();
    /// assert!(wrong.to_string().starts_with("line 2: hash_ids has 1 id"), "{wrong}");
    /// let trace = Trace::read(text.as_bytes(), true)?;
    /// assert_eq!((trace.requests.len(), trace.bad.len()), (1, 1));
    /// # Ok::<(), selvedge_scenarios::serving::trace::ReadError>(())
    /// ```
    ///
    /// # Errors
    /// The first line that is none, unless they are to be skipped; what could not be read; and
    /// a file without any request.
    pub fn read(mut from: impl BufRead, skip_bad: bool) -> Result<Trace, ReadError> {
        let mut trace = Trace::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let most = MOST_BYTES + 1;
            if from.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() as u64 == most {
                return Err(ReadError::Endless { number });
            }
            match parse(&line) {
                Ok(None) => {}
                Ok(Some(request)) => trace.requests.push(request),
                Err(what) if skip_bad => trace.bad.push(BadLine { number, what }),
                Err(what) => return Err(BadLine { number, what }.into()),
            }
        }
        if trace.requests.is_empty() {
            return Err(ReadError::Empty {
                bad: trace.bad.len(),
            });
        }
        trace.requests.sort_by_key(|request| request.timestamp);
        Ok(trace)
    }
}

fn parse(line: &[u8]) -> Result<Option<Request>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is no UTF-8 text".to_owned())?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let request: Request = serde_json::from_str(text).map_err(|error| {
        // The column counts; the line is always the first.
        let what = error.to_string();
        let what = what.split(" at line 1 column").next().unwrap_or(&what);
        format!("{what}, at column {}", error.column())
    })?;
    for (field, tokens) in [
        ("input_length", request.input_length),
        ("output_length", request.output_length),
    ] {
        if tokens == 0 || tokens > MOST_TOKENS {
            return Err(format!(
                "{field} is {tokens}; it must be from 1 to {MOST_TOKENS}"
            ));
        }
    }
    let ids = request.hash_ids.len();
    let wanted = request.input_length.div_ceil(TOKENS_PER_ID) as usize;
    if ids != wanted {
        let s = if ids == 1 { "" } else { "s" };
        return Err(format!(
            "hash_ids has {ids} id{s}; {} tokens of {TOKENS_PER_ID} an id need {wanted}",
            request.input_length
        ));
    }
    Ok(Some(request))
}

/// A line that is no request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {number}: {what}")]
pub struct BadLine {
    /// Its number, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Why a trace was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A line is no request.
    #[error("{0}; `--skip-bad` leaves such lines out")]
    Bad(#[from] BadLine),
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no text, by all appearances.
    #[error("line {number} is longer than {MOST_BYTES} bytes; a request takes some hundred")]
    Endless {
        /// Its number, from 1.
        number: u64,
    },
    /// There is nothing to serve.
    #[error("there is no request in it ({bad} lines were left out)")]
    Empty {
        /// Lines that were skipped.
        bad: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str =
        r#"{"timestamp": 5, "input_length": 513, "output_length": 2, "hash_ids": [7, 8]}"#;

    fn wrong(line: &str) -> String {
        let text = format!("{RIGHT}\n\n{line}\n");
        match Trace::read(text.as_bytes(), false) {
            Err(ReadError::Bad(bad)) => {
                assert_eq!(bad.number, 3, "empty lines count, too");
                bad.what
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_malformed_line_says_what_is_wrong() {
        assert!(wrong("{").contains("EOF while parsing"));
        assert!(wrong("7").contains("invalid type: integer `7`"));
        assert!(wrong(r#"{"timestamp": 5}"#).contains("missing field `input_length`"));
        assert!(wrong(&RIGHT.replace("513", "-1")).contains("invalid value: integer `-1`"));
        assert!(wrong(&RIGHT.replace("513", "0")).contains("input_length is 0"));
        assert!(wrong(&RIGHT.replace(": 2,", ": 99999999,")).contains("output_length is 99999999"));
        assert!(wrong(&RIGHT.replace("[7, 8]", "[7]")).contains("need 2"));
        assert!(wrong(&RIGHT.replace("timestamp", "time")).contains("unknown field `time`"));
        assert!(wrong(&format!("{RIGHT}{RIGHT}")).contains("trailing characters"));
    }

    #[test]
    fn bad_lines_are_counted_and_nothing_else_is_lost() {
        let text = format!(
            "{RIGHT}\nnonsense\n{}\n\u{0}",
            RIGHT.replace(": 5,", ": 4,")
        );
        let trace = Trace::read(text.as_bytes(), true).expect("two are right");
        let times: Vec<u64> = trace.requests.iter().map(|r| r.timestamp).collect();
        let bad: Vec<u64> = trace.bad.iter().map(|bad| bad.number).collect();
        assert_eq!((times, bad), (vec![4, 5], vec![2, 4]));
        let latin = [RIGHT.as_bytes(), b"\n\xff\n"].concat();
        let trace = Trace::read(&latin[..], true).expect("one is right");
        assert_eq!((trace.requests.len(), trace.bad.len()), (1, 1));
    }

    #[test]
    fn a_file_of_nothing_is_refused() {
        for (text, bad) in [("", 0), ("\n\n", 0), ("x\ny\n", 2)] {
            match Trace::read(text.as_bytes(), true) {
                Err(ReadError::Empty { bad: counted }) => assert_eq!(counted, bad),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        let given_up = Trace::read(endless, true);
        assert!(matches!(given_up, Err(ReadError::Endless { number: 1 })));
    }

    #[test]
    fn different_ids_never_share_a_token() {
        let tokens = |id| (0..TOKENS_PER_ID).map(move |at| token(id, at));
        let mut all: Vec<u32> = (0..2_000).flat_map(tokens).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2_000 * TOKENS_PER_ID as usize);
    }
}
