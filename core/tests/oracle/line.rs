//! The line of those who wait for blocks, as the oracle sees it: a list, served from its front
//! whenever what nobody else has is enough.

use std::collections::BTreeMap;

use super::operation::Need;
use super::{Oracle, Registration};

#[derive(Default)]
pub(crate) struct Line {
    tickets: usize,
    line: Vec<(usize, Registration, Vec<Need>)>,
    served: BTreeMap<usize, (Registration, Vec<Need>)>,
    refused: BTreeMap<usize, &'static str>,
    closed: bool,
    /// Blocks that are there and kept for the first.
    pub(super) kept: u32,
    called: Vec<usize>,
}

impl Line {
    pub(super) fn len(&self) -> u32 {
        self.line.len() as u32
    }

    pub(super) fn served_blocks(&self) -> u32 {
        self.served.values().map(|(_, needs)| sum(needs)).sum()
    }

    pub(super) fn send_away(&mut self, agent: Option<Registration>, why: &'static str) {
        let whom = |of: Registration| agent.is_none_or(|agent| agent == of);
        let served = (self.served.iter()).filter(|(_, (of, _))| whom(*of));
        let lined = self.line.iter().filter(|(_, of, _)| whom(*of));
        let leaving: Vec<usize> = (served.map(|(&ticket, _)| ticket))
            .chain(lined.map(|of| of.0))
            .collect();
        self.served.retain(|_, (of, _)| !whom(*of));
        self.line.retain(|(_, of, _)| !whom(*of));
        self.refused
            .extend(leaving.iter().map(|&ticket| (ticket, why)));
        self.called.extend(leaving);
    }
}

impl Oracle {
    /// The new ticket, counted from 0.
    pub(crate) fn enqueue(&mut self, agent: Registration, needs: &[Need]) -> Result<usize, String> {
        if self.line.closed {
            return Err("Closed".to_owned());
        }
        match self.may_allocate(agent, needs, false) {
            Ok(()) | Err("Exhausted") => {}
            Err(error) => return Err(format!("Refused.{error}")),
        }
        let ticket = self.line.tickets;
        self.line.tickets += 1;
        self.line.line.push((ticket, agent, needs.to_vec()));
        self.settle();
        self.line.called.retain(|&called| called != ticket);
        Ok(ticket)
    }

    /// Who is to be given what; `None` while it waits.
    pub(crate) fn claim(
        &mut self,
        ticket: usize,
    ) -> Result<Option<(Registration, Vec<Need>)>, String> {
        if self.line.line.iter().any(|of| of.0 == ticket) {
            return Ok(None);
        }
        if let Some(why) = self.line.refused.remove(&ticket) {
            return Err(why.to_owned());
        }
        let (agent, needs) = self.line.served.remove(&ticket).ok_or("NoTicket")?;
        if let Err(error) = self.may_allocate(agent, &needs, false) {
            self.settle();
            return Err(format!("Refused.{error}"));
        }
        Ok(Some((agent, needs)))
    }

    pub(crate) fn withdraw(&mut self, ticket: usize) {
        self.line.line.retain(|of| of.0 != ticket);
        self.line.served.remove(&ticket);
        self.line.refused.remove(&ticket);
        self.line.called.retain(|&called| called != ticket);
        self.settle();
    }

    pub(crate) fn close_queue(&mut self) {
        self.line.closed = true;
        let served = std::mem::take(&mut self.line.served);
        self.line.send_away(None, "Closed");
        self.line.served = served;
        self.settle();
    }

    pub(crate) fn open_queue(&mut self) {
        self.line.closed = false;
    }

    /// Those whose wait has ended since it was asked last.
    pub(crate) fn called(&mut self) -> Vec<usize> {
        let mut called = std::mem::take(&mut self.line.called);
        called.sort_unstable();
        called
    }

    pub(super) fn settle(&mut self) {
        loop {
            let there = self.unclaimed();
            match self.line.line.first() {
                Some((_, _, needs)) if sum(needs) <= there => {
                    let (ticket, agent, needs) = self.line.line.remove(0);
                    self.line.served.insert(ticket, (agent, needs));
                    self.line.called.push(ticket);
                }
                first => {
                    self.line.kept = if first.is_some() { there } else { 0 };
                    return;
                }
            }
        }
    }
}

fn sum(needs: &[Need]) -> u32 {
    needs.iter().map(|need| need.n).sum()
}
