//! A cluster to test, and how tests speak to it.

mod client;
mod cluster;
mod wire;

pub(crate) use client::{
    Consuming, Delivered, Publishing, Received, consuming, delivered, offsets, open_consumer,
    open_producer, publishing,
};
pub(crate) use cluster::{BATCH_MAX, Cluster, MESSAGE_MAX, Monitor, Plan};
pub(crate) use wire::{ack, batch, body, crc_of, in_time, refusal, refused, topic_of, until};
