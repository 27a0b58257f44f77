//! Three workers share a queue of jobs; one that fails is tried again after a while.
//!
//! `cargo run -p ledgerline-client --example work_queue -- http://127.0.0.1:7450`
#![expect(clippy::print_stdout, reason = "examples speak to people")]

use std::time::Duration;

use ledgerline_client::{ByteSize, Client, Error, SubscriptionMode};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let server = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:7450".to_owned());
    let client = Client::connect(server).await?;

    let producer = client.producer("jobs").create().await?;
    for job in 0..12 {
        producer.send(format!("job {job}")).await?.await?;
    }
    producer.close().await?;

    let workers = (1..=3).map(|number| work(client.clone(), number));
    futures::future::try_join_all(workers).await?;
    Ok(())
}

async fn work(client: Client, number: u32) -> Result<(), Error> {
    let mut consumer = client
        .consumer("jobs/subscriptions/workers")
        .mode(SubscriptionMode::Shared)
        .create_if_missing()
        .credit(1, ByteSize::mib(1)) // One job at a time: the others go to whoever is free.
        .open()
        .await?;
    // Until there was nothing to do for a while.
    while let Ok(job) = tokio::time::timeout(Duration::from_secs(2), consumer.recv()).await {
        let job = job?;
        if job.offset() % 5 == 4 && job.attempt() == 1 {
            println!(
                "worker {number}: {:?} failed, again in a second",
                job.payload()
            );
            consumer.nack(&job, Duration::from_secs(1));
            continue;
        }
        println!(
            "worker {number}: {:?} done, attempt {}",
            job.payload(),
            job.attempt()
        );
        consumer.ack(&job);
    }
    consumer.close().await
}
