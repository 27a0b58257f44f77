//! All that goes over a wire between the parts of Ledgerline and to its clients: the `.proto` files, the code made
//! from them, their meaning in the words of `types`, and the one place with the transport.
//!
//! - [`v1`]: the public messages as a client's stub sees them, and the clients.
//! - [`raw::v1`]: the same messages with each batch left encoded, as `Bytes`, and the servers. A server passes
//!   batches on unopened; our own client makes them itself. Both views have one wire form. Messages without a batch
//!   are the same types in both.
//! - [`bookie_v1`], [`meta_v1`], [`serving_v1`]: what nodes say among themselves; [`bookie`] and [`meta`] turn the first
//!   two into `types` and back, refusing what makes no sense.
//! - [`etcd`]: the part of etcd's API that meta calls.
//! - [`status`]: a [`types::Problem`] as a gRPC status with `google.rpc.ErrorInfo`, and back.
//! - [`hot`]: the frames of the hot streams, built and read without copying a payload.
//! - [`transport`]: channels and servers over a [`host::net::Net`], with explicit limits.
//! - [`headers`]: versions, feature bits and metadata keys; [`time`]: times and durations.
//!
//! Reflection serves [`FILE_DESCRIPTOR_SET`]: the files as they were written.

pub mod bookie;
pub mod headers;
pub mod hot;
pub mod meta;
pub mod status;
pub mod time;
pub mod transport;

#[cfg(test)]
mod tests;

macro_rules! generated {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $(
            $(#[$doc])*
            #[allow(
                missing_docs,
                missing_debug_implementations,
                unreachable_pub,
                unused_qualifications,
                clippy::all,
                clippy::pedantic,
                clippy::allow_attributes_without_reason,
                clippy::missing_errors_doc,
                reason = "generated code has its own habits; the .proto files hold the documentation"
            )]
            pub mod $name {
                include!(concat!(env!("OUT_DIR"), $file));
            }
        )*
    };
}

generated! {
    /// `ledgerline.v1` as clients see it: batches are messages.
    v1 = "/view/ledgerline.v1.rs";
    /// `ledgerline.bookie.v1`.
    bookie_v1 = "/internal/ledgerline.bookie.v1.rs";
    /// `ledgerline.meta.v1`.
    meta_v1 = "/internal/ledgerline.meta.v1.rs";
    /// `ledgerline.serving.v1`.
    serving_v1 = "/internal/ledgerline.serving.v1.rs";
    /// The part of etcd's v3 API that meta calls.
    etcd = "/etcd/etcdserverpb.rs";
}

/// The view of servers, and of our own client.
pub mod raw {
    /// `ledgerline.v1` with every batch as encoded `Bytes`, and the servers.
    #[allow(
        missing_docs,
        missing_debug_implementations,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::missing_errors_doc,
        reason = "generated code has its own habits; the .proto files hold the documentation"
    )]
    pub mod v1 {
        pub use crate::v1::*;

        include!(concat!(env!("OUT_DIR"), "/raw/ledgerline.v1.rs"));
    }
}

/// The descriptors of the public files, as written: what reflection serves to clients.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.bin"));

/// The descriptors of the internal files, as written.
pub const INTERNAL_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/internal.bin"));
