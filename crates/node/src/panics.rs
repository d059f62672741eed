//! What a panic may end: the session that caused it, or the process; never a part of the process that others rely on.
//!
//! - Code of the application (handlers, middlewares, matchers, policies) runs [`guarded`]: its panic is counted and logged, and the
//!   session that it ran for is closed.
//! - A panic in a shard leaves the shard in an unknown state, so [`EndsProcess`] ends the process.
//! - A panic in any other task of a worker ends that task: a connection before it is a session.
//! - A panic anywhere else (the threads of the cluster) ends the process once [`end_process_on_panic`] was called.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    process, thread,
};

use signalbox_telemetry::Metrics;

/// What the process exits with.
const EXIT_CODE: i32 = 1;

/// Names of threads begin so whose tasks have panics of their own.
const WORKERS: [&str; 2] = ["actix-rt|", "actix-server worker"];

/// Code of the application has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs code of the application.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    // What it leaves half done is its own; nothing of the node is lent to it.
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        // A value that panics when it is dropped would get past the guard.
        std::mem::forget(payload);
        Panicked
    })
}

/// Runs a future of the application.
pub(crate) async fn guarded_future<F: Future + ?Sized>(
    mut future: Pin<Box<F>>,
) -> Result<F::Output, Panicked> {
    let result = std::future::poll_fn(|context| match guarded(|| future.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panicked) => std::task::Poll::Ready(Err(panicked)),
    })
    .await;
    guarded(|| drop(future))?;
    result
}

/// Counts and logs that code of the application has panicked; `part` says which.
pub(crate) fn report(metrics: &Metrics, part: &'static str, name: &str) {
    metrics.panics.with_label_values(&[part]).inc();
    tracing::error!(part, name, "the application panicked; the client that caused it is disconnected");
}

/// Held while a shard works: a panic ends the process instead of leaving it with a shard in an unknown state.
pub(crate) struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            end("a worker panicked");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "clients of a process in an unknown state cannot be told anything"
)]
fn end(reason: &str) -> ! {
    tracing::error!("{reason}; the process ends");
    process::exit(EXIT_CODE)
}

/// Has a panic on a thread that others rely on end the process with code 1, so that it is started again instead of living on
/// without the thread. Call it once, at the start of a program whose purpose is a [`Node`](crate::Node); it replaces the panic hook
/// by one that calls the previous hook first.
pub fn end_process_on_panic() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        previous(info);
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        if !WORKERS.iter().any(|workers| name.starts_with(workers)) {
            end(&format!("the thread {name:?} panicked"));
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn panics_of_every_kind_are_contained() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(guarded(|| -> u8 { panic!("at once") }), Err(Panicked));
        assert_eq!(guarded(|| -> u8 { panic::panic_any(PanicsWhenDropped) }), Err(Panicked));
    }

    #[actix_rt::test]
    async fn panics_of_futures_are_contained() {
        assert_eq!(guarded_future(Box::pin(async { 1 })).await, Ok(1));
        assert_eq!(guarded_future(Box::pin(async { panic!("at once") })).await, Err::<u8, _>(Panicked));
        let later = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        assert_eq!(guarded_future(Box::pin(later)).await, Err::<u8, _>(Panicked));
        let kept = PanicsWhenDropped;
        let cancelled = async move {
            let _kept = &kept;
            1
        };
        assert_eq!(guarded_future(Box::pin(cancelled)).await, Err(Panicked));
    }

    /// What a child process does, if this is one.
    const CHILD: &str = "SIGNALBOX_TEST_PANIC";

    #[test]
    fn a_dead_thread_is_the_end_of_the_process() {
        match std::env::var(CHILD).as_deref() {
            Ok("worker") => {
                let _guard = EndsProcess;
                panic!("a worker panics");
            }
            Ok(thread) => {
                end_process_on_panic();
                let run = || panic!("a thread panics");
                let _ = thread::Builder::new().name(thread.to_owned()).spawn(run).unwrap().join();
                return;
            }
            Err(_) => {}
        }
        let test = "panics::tests::a_dead_thread_is_the_end_of_the_process";
        for (child, code) in [("worker", 1), ("cluster", 1), ("actix-rt|system:0|arbiter:1", 0)] {
            let mut command = process::Command::new(std::env::current_exe().unwrap());
            let output = command.args(["--exact", test]).env(CHILD, child).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{child}: {output:?}");
        }
    }
}
