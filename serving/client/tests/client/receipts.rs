//! Receipts of messages that travel together.

use bytes::Bytes;
use ledgerline_client::Receipt;

use super::fake::{World, in_time};
use super::publishing::{batch, ready, receipt};

#[tokio::test(start_paused = true)]
async fn tasks_that_each_wait_for_a_message_of_one_batch_all_learn_its_place() {
    const TASKS: u32 = 256;
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.producer("t").create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    producer.send_and_forget("first").await.unwrap();
    batch(&mut stream).await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..TASKS {
        let receipt = producer.send(n.to_string()).await.unwrap();
        tasks.push(tokio::spawn(receipt));
    }
    stream.send(receipt(0, 1, 0)).await;
    let (first, messages) = batch(&mut stream).await.unwrap();
    assert_eq!((first, messages.len()), (1, TASKS as usize));
    stream.send(receipt(1, TASKS, 1000)).await;
    for (task, offset) in tasks.into_iter().zip(1000..) {
        let stored = in_time(task).await.unwrap().unwrap();
        assert_eq!((stored.first_offset, stored.count), (Some(offset), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn sending_allocates_for_a_batch_and_not_for_each_message() {
    const MESSAGES: u32 = 500;
    let world = World::new("pipe:a");
    let mut server = world.server("pipe:a").await;
    let opening = tokio::spawn(world.client.producer("t").create());
    let (_, mut stream) = ready(&mut server, None).await;
    let producer = in_time(opening).await.unwrap().unwrap();
    let mut receipts = Vec::with_capacity(MESSAGES as usize);
    let fill = |receipts: &mut Vec<Receipt>| {
        for _ in 0..MESSAGES {
            let payload = Bytes::from_static(&[7; 100]);
            receipts.push(producer.try_send(payload).unwrap());
        }
    };
    producer.send_and_forget("first").await.unwrap();
    batch(&mut stream).await.unwrap();
    // From this batch the producer learns how much room the next will take.
    fill(&mut receipts);
    receipts.drain(..).for_each(Receipt::ignore);
    stream.send(receipt(0, 1, 0)).await;
    assert_eq!(batch(&mut stream).await.unwrap().0, 1);
    let allocated = allocation_counter::measure(|| fill(&mut receipts));
    // The batch's bytes, what counts their owners, and what its receipts share.
    assert!((1..=3).contains(&allocated.count_total), "{allocated:?}");
    stream.send(receipt(1, MESSAGES, 1)).await;
    assert_eq!(batch(&mut stream).await.unwrap().1.len(), MESSAGES as usize);
    receipts.into_iter().for_each(Receipt::ignore);
}
