//! Problems as they go over the wire: a [`types::Problem`] as a gRPC status with `google.rpc.ErrorInfo` in its
//! details, and back.
//!
//! | in the problem | on the wire |
//! |---|---|
//! | reason | the code of [`code_of`], and `ErrorInfo.reason` in domain `ledgerline` |
//! | message | the status's message, cut at [`MESSAGE_MAX`] bytes |
//! | metadata | `ErrorInfo.metadata` |
//! | field | `BadRequest.field_violations` |
//! | resource | `ResourceInfo.resource_name` |
//! | wait | `RetryInfo.retry_delay` |
//!
//! Inside a stream the same travels as a `google.rpc.Status` in receipts and results. What comes without `ErrorInfo`
//! of ours, from the transport or a stranger, is read with care: unless nothing can have been sent, the outcome of
//! the request is unknown.

mod details;
#[cfg(test)]
mod tests;

use std::error::Error;

use prost::Message;
use tonic::Code;
use types::{ErrorKind, Problem, Reason};

use details::{BadRequest, Detail, ErrorInfo, FieldViolation, ResourceInfo, RetryInfo};

/// `ErrorInfo.domain` of every error that Ledgerline makes.
pub const DOMAIN: &str = "ledgerline";

/// Most bytes of a message: it has to fit the headers of an answer with everything else.
pub const MESSAGE_MAX: usize = 2048;

/// The gRPC code of a reason.
pub const fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::BadField | Reason::BadFrame | Reason::MalformedBatch | Reason::MessageTooLarge => {
            Code::InvalidArgument
        }
        Reason::PayloadCorrupt | Reason::EntryLost => Code::DataLoss,
        Reason::TenantNotFound
        | Reason::NamespaceNotFound
        | Reason::TopicNotFound
        | Reason::SubscriptionNotFound => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::NotOwner
        | Reason::ShardOpening
        | Reason::InsufficientBookies
        | Reason::Unreachable
        | Reason::DiskReadOnly
        | Reason::Stopping => Code::Unavailable,
        Reason::Overloaded | Reason::LimitReached => Code::ResourceExhausted,
        Reason::ProducerFenced
        | Reason::ProducerUnknown
        | Reason::SequenceOutOfOrder
        | Reason::ExclusiveHeld
        | Reason::LeaseLost
        | Reason::GenerationOld
        | Reason::WrongMode
        | Reason::SessionUnknown
        | Reason::OwnerAlive
        | Reason::EpochMismatch
        | Reason::WrongCluster
        | Reason::WrongGeneration
        | Reason::WrongNode
        | Reason::WrongVersion => Code::FailedPrecondition,
        Reason::AckOutOfRange => Code::OutOfRange,
        Reason::VersionMismatch => Code::Aborted,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::Internal => Code::Internal,
    }
}

/// The problem as the status that ends a call.
pub fn to_status(problem: &Problem) -> tonic::Status {
    let rpc = to_rpc(problem);
    let details = rpc.encode_to_vec().into();
    tonic::Status::with_details(code_of(problem.reason), rpc.message, details)
}

/// The problem as it travels inside a stream, in receipts and results.
pub fn to_rpc(problem: &Problem) -> tonic_types::Status {
    let info = ErrorInfo {
        reason: problem.reason.as_str().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: problem.metadata.clone(),
    };
    let mut details = vec![info.pack()];
    if let Some(field) = &problem.field {
        let violation = FieldViolation {
            field: field.clone(),
            description: cut(&problem.message),
        };
        let violations = vec![violation];
        details.push(BadRequest { violations }.pack());
    }
    if let Some(name) = &problem.resource {
        let resource = ResourceInfo {
            resource_name: name.clone(),
            ..ResourceInfo::default()
        };
        details.push(resource.pack());
    }
    if let Some(wait) = problem.retry_after {
        let retry_delay = prost_types::Duration::try_from(wait).ok();
        details.push(RetryInfo { retry_delay }.pack());
    }
    tonic_types::Status {
        code: code_of(problem.reason).into(),
        message: cut(&problem.message),
        details,
    }
}

/// Reads the status that ended a call.
///
/// One without details of ours means [`Reason::Unreachable`] only when no connection could be made; after any other
/// break of the transport the request may have arrived: [`Reason::OutcomeUnknown`].
pub fn from_status(status: &tonic::Status) -> Problem {
    if !status.details().is_empty()
        && let Ok(rpc) = tonic_types::Status::decode(status.details())
        && let Some(problem) = known(&rpc)
    {
        return problem;
    }
    let reason = if was_never_sent(status) {
        Reason::Unreachable
    } else {
        reason_of(status.code())
    };
    let source = status.source().map(innermost);
    match source {
        Some(cause) if cause != status.message() => {
            Problem::new(reason, cut(&format!("{}: {cause}", status.message())))
        }
        _ => Problem::new(reason, cut(status.message())),
    }
}

/// Reads a status from a receipt or a result.
pub fn from_rpc(rpc: &tonic_types::Status) -> Problem {
    known(rpc).unwrap_or_else(|| Problem::new(reason_of(Code::from(rpc.code)), cut(&rpc.message)))
}

/// Whether the call certainly never reached the other side: no connection could be made.
pub fn was_never_sent(status: &tonic::Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// What is wrong with a request that could not even be read: its bytes are no message of the kind expected, a text in it
/// is not UTF-8, or it is larger than any request may be. None for every other status.
///
/// The transport words these itself, without details; servers answer with this instead.
pub fn undecodable(status: &tonic::Status) -> Option<Problem> {
    let message = status.message();
    if status.code() == Code::OutOfRange && message.contains("message length too large") {
        let text = "the request is larger than this server reads; send fewer messages in each";
        let problem = Problem::new(Reason::MessageTooLarge, format!("{text}: {message}"));
        return Some(problem.with_field("batch"));
    }
    let what = message.strip_prefix("failed to decode Protobuf message: ")?;
    let problem = Problem::new(
        Reason::BadFrame,
        format!("the bytes are not of this method's messages: {what}"),
    );
    // The decoder says where it stood: `PublishRequest.topic: `, from the inside out.
    let mut fields: Vec<&str> = what
        .split(": ")
        .map_while(|step| step.split_once('.'))
        .filter(|(message, field)| !message.contains(' ') && !field.contains(' '))
        .map(|(_, field)| field)
        .collect();
    fields.reverse();
    Some(if fields.is_empty() {
        problem
    } else {
        problem.with_field(fields.join("."))
    })
}

/// Whether repeating the call may help and can do no harm by itself: nothing was decided against it.
pub const fn is_worth_repeating(problem: &Problem) -> bool {
    matches!(
        problem.kind(),
        ErrorKind::Retry | ErrorKind::Moved | ErrorKind::Busy | ErrorKind::Stopping
    )
}

/// Reads a status that carries an `ErrorInfo` of ours with a reason we know.
fn known(rpc: &tonic_types::Status) -> Option<Problem> {
    let info = rpc.details.iter().find_map(ErrorInfo::unpack)?;
    if info.domain != DOMAIN {
        return None;
    }
    let mut problem = Problem::new(Reason::parse(&info.reason)?, rpc.message.clone());
    problem.metadata = info.metadata;
    for detail in &rpc.details {
        if let Some(bad) = BadRequest::unpack(detail) {
            problem.field = bad.violations.into_iter().next().map(|one| one.field);
        } else if let Some(resource) = ResourceInfo::unpack(detail) {
            problem.resource = Some(resource.resource_name);
        } else if let Some(retry) = RetryInfo::unpack(detail) {
            problem.retry_after = retry.retry_delay.and_then(|wait| wait.try_into().ok());
        }
    }
    Some(problem)
}

/// What a code means when nothing else is said.
const fn reason_of(code: Code) -> Reason {
    match code {
        Code::InvalidArgument => Reason::BadField,
        // The transport's own answer to a message above a limit.
        Code::OutOfRange => Reason::MessageTooLarge,
        Code::ResourceExhausted => Reason::Overloaded,
        Code::DataLoss => Reason::PayloadCorrupt,
        Code::AlreadyExists => Reason::AlreadyExists,
        Code::Unimplemented => Reason::WrongVersion,
        Code::Ok
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition => Reason::Internal,
        // Internal: the transport's word for a stream that the other side reset.
        Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unavailable
        | Code::Aborted
        | Code::Internal => Reason::OutcomeUnknown,
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Cuts a text at [`MESSAGE_MAX`] bytes, between characters.
fn cut(text: &str) -> String {
    if text.len() <= MESSAGE_MAX {
        return text.to_owned();
    }
    let mut end = MESSAGE_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
