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
    /// It is no JSON array, and no object that has one.
    #[error(
        "it does not begin with '[', as an array of events does, and is no object with \
         'traceEvents'"
    )]
    NoArray,
    /// The object that has the array is none.
    #[error("byte {at}: the object around the events: {why}")]
    Around {
        /// Where.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
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

/// The elements of a file, one after the other, until there is a fault. The array may be the file,
/// or a member of an object that is, as torch writes it.
pub(super) struct Elements<R> {
    from: R,
    /// Bytes that were read.
    at: u64,
    /// Elements that were read, whole or not.
    seen: u64,
    /// Just after the `[`.
    head: u64,
    /// Just after the last whole element, or after the `[`.
    good: u64,
    begun: bool,
    in_object: bool,
    passable: bool,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(from: R) -> Self {
        Elements {
            from,
            at: 0,
            seen: 0,
            head: 0,
            good: 0,
            begun: false,
            in_object: false,
            passable: false,
        }
    }

    /// Just after the last whole element, or after the `[`; 0 before that.
    pub(super) fn good(&self) -> u64 {
        self.good
    }

    /// Just after the `[`; 0 before that.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Whether the array is a member of an object.
    pub(super) fn in_object(&self) -> bool {
        self.in_object
    }

    /// Whether the last fault is one element's: its end is known, and the next may be whole.
    pub(super) fn is_passable(&self) -> bool {
        self.passable
    }

    /// The next; `None` once the array and the file have ended as they should.
    pub(super) fn next(&mut self) -> Result<Option<Element>, TraceFault> {
        self.passable = false;
        let mut after_comma = false;
        if !self.begun {
            match self.solid()? {
                Some(b'[') => {}
                Some(b'{') => {
                    self.in_object = true;
                    if !self.members(true)? {
                        return Err(TraceFault::NoArray);
                    }
                }
                Some(_) => return Err(TraceFault::NoArray),
                None => return Err(TraceFault::Empty),
            }
            self.begun = true;
            (self.head, self.good) = (self.at, self.at);
        } else if self.seen > 0 {
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
        if self.in_object && self.members(false)? {
            return Err(self.around("it has 'traceEvents' twice"));
        }
        match self.solid()? {
            None => Ok(None),
            Some(_) => Err(TraceFault::AfterEnd { at: self.at - 1 }),
        }
    }

    /// The element whose first byte was read.
    fn element(&mut self, first: u8) -> Result<Element, TraceFault> {
        let (at, number) = (self.at - 1, self.seen);
        let wrong = |why: String| TraceFault::NoEvent { number, at, why };
        if first != b'{' {
            let what = char::from(first).escape_default();
            return Err(wrong(format!("it begins with '{what}'")));
        }
        let bytes = self.balanced(first, wrong)?;
        self.seen += 1;
        let event = serde_json::from_slice(&bytes).map_err(|error| {
            self.passable = true;
            wrong(error.to_string())
        })?;
        self.good = self.at;
        Ok(Element { at, number, event })
    }

    /// Up to the bracket that closes the first.
    fn balanced(
        &mut self,
        first: u8,
        wrong: impl Fn(String) -> TraceFault,
    ) -> Result<Vec<u8>, TraceFault> {
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
        Ok(bytes)
    }

    /// The members of the object around the array: those before it, up to its `[`, or those after
    /// it. Returns whether there was an array of events.
    fn members(&mut self, before: bool) -> Result<bool, TraceFault> {
        let mut first = before;
        loop {
            let mut next = self.solid()?;
            match next {
                Some(b'}') => return Ok(false),
                Some(b',') if !first => next = self.solid()?,
                _ if first => {}
                Some(_) => return Err(self.around("neither ',' nor '}' after a member")),
                None => {}
            }
            first = false;
            match next {
                Some(b'"') => {}
                Some(_) => return Err(self.around("a member does not begin with its name")),
                None => return Err(TraceFault::Unclosed { at: self.at }),
            }
            let name = self.text()?;
            if self.solid()? != Some(b':') {
                return Err(self.around("no ':' after the name of a member"));
            }
            match self.solid()? {
                Some(b'[') if name == "traceEvents" => return Ok(true),
                Some(value) => self.value(value)?,
                None => return Err(TraceFault::Unclosed { at: self.at }),
            }
        }
    }

    /// A member's value, of no interest, but JSON.
    fn value(&mut self, first: u8) -> Result<(), TraceFault> {
        let at = self.at - 1;
        let wrong = |why| TraceFault::Around { at, why };
        let mut bytes = match first {
            b'{' | b'[' => self.balanced(first, wrong)?,
            b'"' => {
                self.text()?;
                return Ok(());
            }
            first => vec![first],
        };
        if !matches!(first, b'{' | b'[') {
            while let Some(byte) = self.peek()?
                && !matches!(byte, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
                && bytes.len() < 64
            {
                bytes.push(byte);
                self.byte()?;
            }
        }
        let parsed: Result<Value, _> = serde_json::from_slice(&bytes);
        parsed.map(drop).map_err(|error| wrong(error.to_string()))
    }

    /// The rest of a text whose quote was read.
    fn text(&mut self) -> Result<String, TraceFault> {
        let (mut bytes, mut escaped) = (vec![b'"'], false);
        loop {
            let Some(byte) = self.byte()? else {
                return Err(TraceFault::Unclosed { at: self.at });
            };
            if bytes.len() == MOST_EVENT {
                return Err(self.around("a text is too long"));
            }
            bytes.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ => {}
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| self.around(&error.to_string()))
    }

    fn around(&self, why: &str) -> TraceFault {
        TraceFault::Around {
            at: self.at.saturating_sub(1),
            why: why.to_owned(),
        }
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

    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.from.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let found = self.peek()?;
        if found.is_some() {
            self.from.consume(1);
            self.at += 1;
        }
        Ok(found)
    }
}
