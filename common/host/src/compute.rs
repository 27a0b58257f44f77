//! Long computations, away from the network threads.
//!
//! What keeps a processor busy for milliseconds would hold up every stream of its network thread. On a real machine it
//! goes to a thread of the runtime's pool for blocking calls, at most so many at once as there are processors: more would
//! only take memory. In a simulation it runs at once where it is asked for, so that the same seed gives the same run.

use std::fmt;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Where long computations run. Clones share the places: they are the machine's, whatever parts a process has.
#[derive(Clone)]
pub struct Compute {
    /// One for each computation that may run at a time; none: they run where they are asked for.
    places: Option<Arc<Semaphore>>,
}

impl Compute {
    /// On threads, as many at once as the machine has processors for this process.
    pub(crate) fn threads() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            places: Some(Arc::new(Semaphore::new(processors))),
        }
    }

    /// On threads, so many at once.
    #[cfg(any(test, feature = "sim"))]
    pub fn places(count: usize) -> Self {
        Self {
            places: Some(Arc::new(Semaphore::new(count))),
        }
    }

    /// Where they are asked for.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn inline() -> Self {
        Self { places: None }
    }

    /// How many places are free; none in a simulation, which has no places.
    pub fn free(&self) -> Option<usize> {
        self.places
            .as_ref()
            .map(|places| places.available_permits())
    }

    /// Waits for a place, in the order of asking, runs a computation there and returns what it came to. It must be a
    /// function of what it holds: whoever asked may be gone before it ends. A panic in it is the caller's.
    ///
    /// # Panics
    ///
    /// As the computation does; outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped while waiting for a place, it never runs; later it runs to its end, and what it came to is lost.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(places) = &self.places else {
            return work();
        };
        let place = Arc::clone(places).acquire_owned().await;
        let place = place.expect("the places are never closed");
        let done = spawn(move || {
            let value = work();
            drop(place); // Also when nobody waits for the answer any more.
            value
        });
        match done.await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime goes away, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where computations leave the network threads for all others"
)]
fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute")
            .field("free", &self.free())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn no_more_run_at_once_than_there_are_places_and_the_rest_wait() {
        let places = 2;
        let compute = Compute::places(places);
        let (release, held) = (0..places)
            .map(|_| mpsc::channel::<()>())
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let mut busy: Vec<_> = held
            .into_iter()
            .map(|held| Box::pin(compute.run(move || held.recv().is_err())))
            .collect();
        for one in &mut busy {
            assert!(poll!(one).is_pending());
        }
        assert_eq!(compute.free(), Some(0));
        let mut next = Box::pin(compute.run(|| 7));
        // Each poll would be ready in the end if it had been begun.
        for _ in 0..100 {
            assert!(poll!(&mut next).is_pending());
            tokio::task::yield_now().await;
        }

        drop(release);

        assert_eq!(next.await, 7);
        for one in busy {
            assert!(one.await, "each was held until then");
        }
        assert_eq!(compute.free(), Some(places));
    }

    #[tokio::test]
    async fn it_runs_on_another_thread_than_the_network() {
        let here = std::thread::current().id();
        let there = Compute::threads().run(|| std::thread::current().id()).await;
        assert_ne!(here, there);
    }

    #[tokio::test]
    async fn who_gave_up_keeps_its_place_taken_until_the_work_ends() {
        let places = 2;
        let compute = Compute::places(places);
        let (release, held) = mpsc::channel::<()>();
        let mut given_up = Box::pin(compute.run(move || held.recv().is_err()));
        assert!(poll!(&mut given_up).is_pending());
        drop(given_up);
        assert_eq!(compute.free(), Some(places - 1));
        drop(release);
        let all = u32::try_from(places).unwrap();
        let places = compute.places.as_ref().unwrap();
        assert!(places.acquire_many(all).await.is_ok(), "it came back");
    }

    #[tokio::test]
    async fn a_panic_is_the_callers_and_gives_the_place_back() {
        let compute = Compute::threads();
        let places = compute.free();
        let broken = compute.clone();
        let task = crate::Tasks::new("node");
        task.spawn("broken", async move {
            broken.run(|| assert_eq!(1, 2, "broken")).await;
        });
        let failure = task.join().await.unwrap_err();
        assert!(failure.panicked && failure.reason.contains("broken"));
        assert_eq!(compute.free(), places);
    }

    #[tokio::test]
    async fn a_simulation_computes_at_once_and_on_its_own_thread() {
        let here = std::thread::current().id();
        let compute = crate::Host::simulated("sim", 1).compute;
        let mut there = Box::pin(compute.run(|| std::thread::current().id()));
        assert_eq!(poll!(&mut there), std::task::Poll::Ready(here));
    }
}
