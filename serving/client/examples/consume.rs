//! Reads a topic from its start, in order, and acks what it read.
//!
//! `cargo run -p ledgerline-client --example consume -- http://127.0.0.1:7450 greetings/subscriptions/readers`
#![expect(clippy::print_stdout, reason = "examples speak to people")]

use ledgerline_client::{Client, Error, StartPosition};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "http://127.0.0.1:7450".to_owned());
    let subscription = arguments.next();
    let subscription = subscription.unwrap_or_else(|| "greetings/subscriptions/readers".to_owned());

    let client = Client::connect(server).await?;
    let mut consumer = client
        .consumer(&subscription)
        .create_if_missing()
        .start(StartPosition::Earliest)
        .open()
        .await?;
    for _ in 0..10 {
        let message = consumer.recv().await?;
        println!(
            "{:>6}  {}",
            message.offset(),
            String::from_utf8_lossy(message.payload())
        );
        consumer.ack(&message);
    }
    // Waits until the acks are durable: these messages never come again.
    consumer.close().await
}
