//! What a rank or a coordinator tells of itself, as JSON lines or in words.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::trajectory::Line;

/// One thing that happened in one process of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A coordinator takes connections.
    Listening {
        /// Where.
        address: String,
    },
    /// A rank has its data, and wants to join.
    Started {
        /// Batches that its loader has an epoch.
        batches: u64,
    },
    /// A coordinator has a rank's connection; a rank has the one to the coordinator.
    Connected {
        /// Which rank.
        rank: u32,
    },
    /// That connection is gone.
    Disconnected {
        /// Which rank.
        rank: u32,
    },
    /// Another membership.
    View {
        /// Its number.
        view: u64,
        /// Who is in it.
        members: Vec<u32>,
    },
    /// A record was applied.
    Applied(Line),
    /// How long an epoch's end took.
    Committed {
        /// The epoch.
        epoch: u64,
        /// Rank: from its own arrival until the record was applied. Coordinator: from the first
        /// arrival until the record was made.
        latency_us: u64,
        /// Rank: of each step of the epoch, from contributing until the sum was there.
        steps_us: Vec<u64>,
    },
    /// A wait takes long.
    Slow {
        /// What it is for.
        wait: String,
        /// Who is missing.
        missing: Vec<u32>,
    },
    /// A wait has taken too long.
    Overdue {
        /// What it was for.
        wait: String,
        /// Who was missing.
        missing: Vec<u32>,
    },
    /// The coordinator takes a life for lost.
    Suspected {
        /// Whose.
        rank: u32,
    },
    /// Somebody was not let in.
    Refused {
        /// Why.
        why: String,
    },
    /// A connection between ranks is gone.
    PeerLost {
        /// To which rank.
        rank: u32,
    },
    /// Parameters were copied.
    Healed {
        /// From which rank.
        from: u32,
        /// Their version.
        applied: u64,
    },
    /// Connections were cut, as the plan says.
    CutOff {
        /// How many.
        sockets: usize,
    },
    /// It is out of the run.
    Failed {
        /// Why, in one word.
        reason: String,
        /// Why, in a sentence.
        detail: String,
        /// What happened before, the last last.
        before: Vec<String>,
    },
    /// The run is over, and all is well.
    Done,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Listening { address } => write!(f, "coordinator: listening at {address}"),
            Event::Started { batches } => write!(f, "started, {batches} batches an epoch"),
            Event::Connected { rank } => write!(f, "rank {rank} and the coordinator are connected"),
            Event::Disconnected { rank } => {
                write!(
                    f,
                    "the connection of rank {rank} and the coordinator is gone"
                )
            }
            Event::View { view, members } => write!(f, "view {view}: ranks {}", list(members)),
            Event::Applied(line) => {
                write!(f, "epoch {}: {}", line.epoch, line.slots_in_short())?;
                match line.loss {
                    Some(loss) => write!(f, "  loss {:.4}", loss.loss),
                    None => Ok(()),
                }
            }
            Event::Committed {
                epoch, latency_us, ..
            } => {
                let ms = *latency_us as f64 / 1e3;
                write!(f, "epoch {epoch}: committed in {ms:.2} ms")
            }
            Event::Slow { wait, missing } => {
                write!(f, "waiting long: {wait}, for {}", ranks(missing))
            }
            Event::Overdue { wait, missing } => {
                write!(f, "waited too long: {wait}, for {}", ranks(missing))
            }
            Event::Suspected { rank } => write!(f, "a life of rank {rank} is taken for lost"),
            Event::Refused { why } => write!(f, "somebody was refused: {why}"),
            Event::PeerLost { rank } => write!(f, "connection to rank {rank} lost"),
            Event::Healed { from, applied } => {
                write!(
                    f,
                    "copied the parameters after step {applied} from rank {from}"
                )
            }
            Event::CutOff { sockets } => write!(f, "{sockets} connections cut"),
            Event::Failed { reason, detail, .. } => write!(f, "failed ({reason}): {detail}"),
            Event::Done => f.write_str("done"),
        }
    }
}

fn list(of: &[u32]) -> String {
    of.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

fn ranks(of: &[u32]) -> String {
    match of {
        [] => "the other side".to_owned(),
        [one] => format!("rank {one}"),
        more => format!("ranks {}", list(more)),
    }
}

/// Where events go, from whichever thread.
#[derive(Clone)]
pub struct Events {
    sink: Arc<Mutex<Sink>>,
    also: Option<Listener>,
}

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

struct Sink {
    to: Box<dyn Write + Send>,
    json: bool,
    /// The first error; nothing is written after it.
    error: Option<io::Error>,
}

impl Events {
    /// Words to standard output, without those that come with every epoch's every step.
    #[must_use]
    pub fn words() -> Self {
        Self::to(Box::new(io::stdout()), false)
    }

    /// JSON lines to standard output.
    #[must_use]
    pub fn lines() -> Self {
        Self::to(Box::new(io::stdout()), true)
    }

    /// JSON lines to a file.
    #[must_use]
    pub fn file(file: File) -> Self {
        Self::to(Box::new(file), true)
    }

    /// To nobody but listeners.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::to(Box::new(io::sink()), false)
    }

    fn to(to: Box<dyn Write + Send>, json: bool) -> Self {
        Events {
            sink: Arc::new(Mutex::new(Sink {
                to,
                json,
                error: None,
            })),
            also: None,
        }
    }

    /// The same, where `listener` hears of them too.
    #[must_use]
    pub fn also(self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Events {
            also: Some(Arc::new(listener)),
            ..self
        }
    }

    /// Tells one.
    pub fn tell(&self, event: &Event) {
        if let Some(listener) = &self.also {
            listener(event);
        }
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match (sink.json, event) {
            (true, event) => serde_json::to_string(event).map_err(io::Error::other),
            (false, Event::Committed { .. }) => return,
            (false, event) => Ok(event.to_string()),
        };
        if sink.error.is_none() {
            let written = text.and_then(|text| {
                sink.to.write_all(format!("{text}\n").as_bytes())?;
                sink.to.flush()
            });
            sink.error = written.err();
        }
    }

    /// The first error there was, if any. A reader that went away is none.
    #[must_use]
    pub fn error(&self) -> Option<io::Error> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let error = sink.error.take();
        error.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::RunId;

    use super::*;
    use crate::training::job::genesis;

    #[test]
    fn events_come_back_from_their_lines() {
        let line = Line::of(&genesis(RunId(1)), Some(3), None);
        for event in [
            Event::Applied(line),
            Event::Done,
            Event::View {
                view: 3,
                members: vec![0, 2],
            },
            Event::Failed {
                reason: "evicted".into(),
                detail: "it was \"late\"\n".into(),
                before: vec!["a".into()],
            },
        ] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(text.lines().count(), 1);
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        }
    }
}
