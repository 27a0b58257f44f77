use super::*;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn what_somebody_else_runs_counts_until_it_ends_or_is_dropped() {
    let tasks = Tasks::new("node");
    let token = tasks.token();
    let counted = tasks.counted("stream", async move { token.cancelled().await });
    let dropped = tasks.counted("stream", std::future::pending::<()>());
    assert_eq!(tasks.running(), ["node/stream", "node/stream"]);
    drop(dropped);
    assert_eq!(tasks.running(), ["node/stream"]);
    let (stopped, ()) = tokio::join!(tasks.stop(LONG), counted);
    stopped.unwrap();

    let failed = tasks.counted("stream", async { Err::<(), _>("a defect") });
    failed.await;
    assert_eq!(tasks.failure().unwrap().reason, "a defect");
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_every_task_here_and_below() {
    let tasks = Tasks::new("node");
    let child = tasks.child("part");
    for group in [&tasks, &child] {
        let token = group.token();
        group.spawn("loop", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
    }
    assert_eq!(tasks.running(), ["node/loop", "node/part/loop"]);
    assert_eq!(child.running(), ["node/part/loop"]);

    tasks.stop(LONG).await.unwrap();

    assert!(tasks.running().is_empty() && child.is_stopping());
}

#[tokio::test(start_paused = true)]
async fn a_child_stops_alone() {
    let tasks = Tasks::new("node");
    let child = tasks.child("part");
    let (keep, token) = (tasks.token(), child.token());
    tasks.spawn("keep", async move { keep.cancelled().await });
    child.spawn("end", async move { token.cancelled().await });

    child.stop(LONG).await.unwrap();

    assert!(!tasks.is_stopping());
    assert_eq!(tasks.running(), ["node/keep"]);
    tasks.stop(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_below_stops_the_tree_and_the_first_is_reported() {
    let tasks = Tasks::new("node");
    let token = tasks.token();
    tasks.spawn("late", async move {
        token.cancelled().await;
        Err::<(), _>("also bad")
    });
    tasks
        .child("part")
        .spawn("first", async { Err::<(), _>("bad") });

    let failure = tasks.join().await.unwrap_err();

    assert_eq!(
        failure.to_string(),
        "task failed task=node/part/first reason=bad"
    );
    assert_eq!(tasks.stop(LONG).await, Err(StopError::Failed(failure)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_stops_the_tree_and_keeps_its_text() {
    let tasks = Tasks::new("node");
    let count = 3;
    tasks.spawn("broken", async move { assert!(count < 3, "count={count}") });

    let failure = tasks.join().await.unwrap_err();

    assert!(failure.panicked);
    assert_eq!(
        (failure.task.as_str(), failure.reason.as_str()),
        ("node/broken", "count=3")
    );
    assert!(tasks.is_stopping());
}

#[tokio::test(start_paused = true)]
async fn a_stop_past_its_deadline_names_who_still_runs() {
    let tasks = Tasks::new("node");
    tasks.spawn("stuck", std::future::pending::<()>());

    let error = tasks.stop(Duration::from_secs(5)).await.unwrap_err();

    assert_eq!(
        error,
        StopError::Overdue {
            running: vec!["node/stuck".to_owned()]
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_spawned_during_the_stop_is_waited_for() {
    let tasks = Tasks::new("node");
    let (inner, token) = (tasks.clone(), tasks.token());
    tasks.spawn("outer", async move {
        token.cancelled().await;
        inner.spawn("last", tokio::time::sleep(Duration::from_secs(3)));
    });
    let before = tokio::time::Instant::now();

    tasks.stop(LONG).await.unwrap();

    assert!(before.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_failure_from_outside_counts() {
    let tasks = Tasks::new("node");
    tasks.fail("signal", "told so");
    assert_eq!(tasks.join().await.unwrap_err().task, "node/signal");
}
