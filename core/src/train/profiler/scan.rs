//! A trace, element by element: what every reader of traces here is made of. It holds one event
//! at a time, so the size of a trace is no matter.

use std::io::{self, BufRead};

use serde_json::Value;
use thiserror::Error;

/// No event is longer than so many bytes.
pub const MOST_EVENT: usize = 16 << 20;

/// Why a file is not a valid trace.
#[derive(Debug, Error)]
pub enum TraceFault {
    /// It is no JSON array.
    #[error("it does not begin with '[', as an array of events does")]
    NoArray,
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// The array ends with a comma, which Perfetto does not forgive.
    #[error("byte {at}: a comma before the array's end")]
    TrailingComma {
        /// Where, counted from 0.
        at: u64,
    },
    /// There is something else than a comma between two events.
    #[error("byte {at}: neither ',' nor ']' after an event")]
    NoComma {
        /// Where.
        at: u64,
    },
    /// The file ends before the array does, which Perfetto does not forgive.
    #[error("byte {at}: the file ends before the array does")]
    Unclosed {
        /// Where the file ends.
        at: u64,
    },
    /// There is something after the array.
    #[error("byte {at}: something follows after the array's end")]
    AfterEnd {
        /// Where.
        at: u64,
    },
    /// An element is no JSON object.
    #[error("byte {at}: element {number} is no JSON object: {why}")]
    NoEvent {
        /// Which, counted from 0.
        number: u64,
        /// Where it begins.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// An event breaks one of the [`RULES`](super::RULES).
    #[error("byte {at}: event {number} {why}")]
    Rule {
        /// Which, counted from 0.
        number: u64,
        /// Where it begins.
        at: u64,
        /// The rule that it breaks, and by what.
        why: String,
    },
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
}

/// One element: where it begins, and what it is.
pub(super) struct Element {
    pub(super) at: u64,
    pub(super) number: u64,
    pub(super) event: Value,
}

/// The elements of a file, one after the other, until there is a fault.
pub(super) struct Elements<R> {
    from: R,
    /// Bytes that were read.
    at: u64,
    /// Elements that were read.
    number: u64,
    /// Just after the last whole element, or after the `[`.
    good: u64,
    begun: bool,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(from: R) -> Self {
        Elements {
            from,
            at: 0,
            number: 0,
            good: 0,
            begun: false,
        }
    }

    /// Just after the last whole element, or after the `[`; 0 before that.
    pub(super) fn good(&self) -> u64 {
        self.good
    }

    /// How many whole elements there were.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next; `None` once the array and the file have ended as they should.
    pub(super) fn next(&mut self) -> Result<Option<Element>, TraceFault> {
        let mut after_comma = false;
        if !self.begun {
            match self.solid()? {
                Some(b'[') => {}
                Some(_) => return Err(TraceFault::NoArray),
                None => return Err(TraceFault::Empty),
            }
            self.begun = true;
            self.good = self.at;
        } else if self.number > 0 {
            match self.solid()? {
                Some(b',') => after_comma = true,
                Some(b']') => return self.end(),
                Some(_) => return Err(TraceFault::NoComma { at: self.at - 1 }),
                None => return Err(TraceFault::Unclosed { at: self.at }),
            }
        }
        match self.solid()? {
            Some(b']') if after_comma => Err(TraceFault::TrailingComma { at: self.at - 1 }),
            Some(b']') => self.end(),
            Some(first) => self.element(first).map(Some),
            None => Err(TraceFault::Unclosed { at: self.at }),
        }
    }

    fn end(&mut self) -> Result<Option<Element>, TraceFault> {
        match self.solid()? {
            None => Ok(None),
            Some(_) => Err(TraceFault::AfterEnd { at: self.at - 1 }),
        }
    }

    /// The element whose first byte was read.
    fn element(&mut self, first: u8) -> Result<Element, TraceFault> {
        let (at, number) = (self.at - 1, self.number);
        let wrong = |why: String| TraceFault::NoEvent { number, at, why };
        if first != b'{' {
            let what = char::from(first).escape_default();
            return Err(wrong(format!("it begins with '{what}'")));
        }
        let mut bytes = vec![first];
        let (mut depth, mut in_text, mut escaped) = (1_u32, false, false);
        while depth > 0 {
            let Some(byte) = self.byte()? else {
                return Err(TraceFault::Unclosed { at: self.at });
            };
            if bytes.len() == MOST_EVENT {
                return Err(wrong(format!("it is longer than {MOST_EVENT} bytes")));
            }
            bytes.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b'}' | b']' if !in_text => depth -= 1,
                _ => {}
            }
        }
        let event = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        self.number += 1;
        self.good = self.at;
        Ok(Element { at, number, event })
    }

    /// The next byte that is no white space.
    fn solid(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(b' ' | b'\n' | b'\r' | b'\t') => {}
                other => return Ok(other),
            }
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let found = loop {
            match self.from.fill_buf() {
                Ok(bytes) => break bytes.first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if found.is_some() {
            self.from.consume(1);
            self.at += 1;
        }
        Ok(found)
    }
}
