//! The messages of `google/rpc/error_details.proto` that Ledgerline sends, with maps in order, so that one problem is
//! always the same bytes.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::Any;

/// A message that travels in the details of a status.
pub(super) trait Detail: Message + Default {
    /// Its name in an `Any`.
    const TYPE_URL: &'static str;

    /// Puts it into an `Any`.
    fn pack(&self) -> Any {
        Any {
            type_url: Self::TYPE_URL.to_owned(),
            value: self.encode_to_vec(),
        }
    }

    /// Takes it out of an `Any`; `None` when there is something else in it.
    fn unpack(any: &Any) -> Option<Self> {
        if any.type_url != Self::TYPE_URL {
            return None;
        }
        Self::decode(any.value.as_slice()).ok()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) metadata: BTreeMap<String, String>,
}

impl Detail for ErrorInfo {
    const TYPE_URL: &'static str = "type.googleapis.com/google.rpc.ErrorInfo";
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldViolation {
    #[prost(string, tag = "1")]
    pub(super) field: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) violations: Vec<FieldViolation>,
}

impl Detail for BadRequest {
    const TYPE_URL: &'static str = "type.googleapis.com/google.rpc.BadRequest";
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceInfo {
    #[prost(string, tag = "1")]
    pub(super) resource_type: String,
    #[prost(string, tag = "2")]
    pub(super) resource_name: String,
}

impl Detail for ResourceInfo {
    const TYPE_URL: &'static str = "type.googleapis.com/google.rpc.ResourceInfo";
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<prost_types::Duration>,
}

impl Detail for RetryInfo {
    const TYPE_URL: &'static str = "type.googleapis.com/google.rpc.RetryInfo";
}
