//! What an event needs before it starts: a place, and an instance or the memory for one.

use std::pin::pin;
use std::time::Instant;

use tokio::time::timeout_at;

use crate::memory::{Charge, EventMemory};
use crate::runtime::places::{Claim, Place, PlaceRequest};
use crate::runtime::plugin::{Instance, InvokeError, Plugin};

/// What an event starts with.
pub enum Start {
    Kept(Instance),
    /// The memory for a new instance.
    New(Charge),
}

impl Plugin {
    /// Acquires a place, and an instance or the memory for one, waiting as long as the claim allows. Returns them with the
    /// current time.
    pub(super) async fn acquire(
        &self,
        arrived: Instant,
        claim: Claim,
    ) -> Result<(Place<'_>, Instant, Start), InvokeError> {
        let (place, now) = self.acquire_place(arrived, arrived, claim).await?;
        match self.begin() {
            Some(start) => Ok((place, now, start)),
            None => {
                drop(place);
                // Boxed because few events have to wait for memory.
                Box::pin(self.acquire_with_memory(arrived, claim)).await
            }
        }
    }

    /// As `acquire`, if there is not enough memory. Between two attempts it holds neither a place nor memory, so that no two
    /// events wait for each other. An event that has begun never waits for memory, for the same reason.
    async fn acquire_with_memory(
        &self,
        arrived: Instant,
        claim: Claim,
    ) -> Result<(Place<'_>, Instant, Start), InvokeError> {
        let waiting = self.scope.memory.wait();
        loop {
            // Memory that is freed after a failed attempt must complete it.
            let mut freed = pin!(waiting.freed());
            freed.as_mut().enable();
            let (place, now) = self.acquire_place(arrived, Instant::now(), claim).await?;
            if let Some(start) = self.begin() {
                waiting.succeed();
                return Ok((place, now, start));
            }
            drop(place);
            match claim.wait_max {
                Some(wait) => {
                    let freed = timeout_at((arrived + wait).into(), freed).await;
                    freed.map_err(|_| InvokeError::NoMemory(wait))?;
                }
                None => freed.await,
            }
        }
    }

    /// Acquires a place `now` for an event that has waited since it `arrived`.
    async fn acquire_place(
        &self,
        arrived: Instant,
        now: Instant,
        claim: Claim,
    ) -> Result<(Place<'_>, Instant), InvokeError> {
        let wait_max = claim.wait_max.map(|wait| (arrived + wait).saturating_duration_since(now));
        let request = PlaceRequest {
            claim: Claim { wait_max, ..claim },
            count: self.slots,
            concurrency: self.scope.limits.concurrency,
        };
        let acquired = self.places.share().acquire(request, now).await;
        acquired.ok_or_else(|| InvokeError::Overloaded(claim.wait_max.unwrap_or_else(|| arrived.elapsed())))
    }

    /// Takes a kept instance, or the memory for a new one. `None` if there is not enough memory.
    fn begin(&self) -> Option<Start> {
        if self.reuse > 0
            && let Some(instance) = self.kept.pop()
        {
            return Some(Start::Kept(instance));
        }
        self.scope.memory.try_charge(self.initial_bytes).map(Start::New)
    }

    pub(super) fn event_memory(&self, charge: Charge) -> EventMemory {
        EventMemory::new(charge, self.host_bytes, self.scope.limits.memory_bytes)
    }
}
