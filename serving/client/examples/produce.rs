//! Publishes some messages and waits until each is fsynced.
//!
//! `cargo run -p ledgerline-client --example produce -- http://127.0.0.1:7450 greetings`
#![expect(clippy::print_stdout, reason = "examples speak to people")]

use ledgerline_client::{Client, Error, Message};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "http://127.0.0.1:7450".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "greetings".to_owned());

    let client = Client::connect(server).await?;
    let producer = client.producer(&topic).create().await?;

    // All are on their way before the first receipt is waited for: they travel together.
    let mut receipts = Vec::new();
    for number in 0..10 {
        let message = Message::new(format!("hello {number}")).with_attribute("lang", "en");
        receipts.push(producer.send(message).await?);
    }
    for receipt in receipts {
        let stored = receipt.await?;
        println!(
            "stored at offset {}",
            stored.first_offset.unwrap_or_default()
        );
    }
    producer.close().await
}
