//! [`Hands`]: the trainee, and where its calls are made. Nothing else is done meanwhile, above all
//! no heartbeat; but the other tasks of the rank read and write.

use core::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::ddp::net::options::Calls;
use crate::ddp::net::trainee::Trainee;
use crate::ddp::watch::Deadlines;

/// Why a call gave nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoAnswer {
    /// It has not come back by the hard deadline.
    Stuck,
    Panicked,
}

/// The trainee; none after a call that did not come back.
pub(super) struct Hands<T> {
    trainee: Option<T>,
    calls: Calls,
    deadlines: Deadlines,
}

impl<T: Trainee> Hands<T> {
    pub(super) const fn new(trainee: T, calls: Calls, deadlines: Deadlines) -> Self {
        Hands {
            trainee: Some(trainee),
            calls,
            deadlines,
        }
    }

    /// Makes one call. `slow` is called once if it takes longer than the soft deadline.
    pub(super) async fn call<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut T) -> R + Send + 'static,
        slow: impl FnOnce(),
    ) -> Result<R, NoAnswer> {
        let Some(mut trainee) = self.trainee.take() else {
            return Err(NoAnswer::Stuck);
        };
        if self.calls == Calls::Inline {
            let answer = call(&mut trainee);
            self.trainee = Some(trainee);
            return Ok(answer);
        }
        let mut at_work = spawn_blocking(move || {
            let answer = call(&mut trainee);
            (trainee, answer)
        });
        let Deadlines { soft, hard } = self.deadlines;
        let done = match timeout(soft, &mut at_work).await {
            Ok(done) => done,
            Err(_) => {
                slow();
                let left = hard.saturating_sub(soft).max(Duration::from_millis(1));
                timeout(left, at_work).await.map_err(|_| NoAnswer::Stuck)?
            }
        };
        let (trainee, answer) = done.map_err(|_| NoAnswer::Panicked)?;
        self.trainee = Some(trainee);
        Ok(answer)
    }
}
