use std::time::Duration;

use tonic_types::StatusExt;

use super::*;

fn full(reason: Reason) -> Problem {
    Problem::new(reason, "what is wrong and what to do")
        .with_field("open.topic")
        .with_resource("tenants/a/namespaces/b/topics/c")
        .with("expected", 17)
        .with("actual", 18)
        .retry_after(Duration::from_millis(1500))
}

#[test]
fn every_reason_survives_both_ways_with_all_it_carries() {
    for &reason in Reason::ALL {
        for problem in [full(reason), Problem::new(reason, "")] {
            assert_eq!(from_status(&to_status(&problem)), problem);
            assert_eq!(from_rpc(&to_rpc(&problem)), problem);
        }
    }
}

#[test]
fn what_could_not_be_read_is_told_with_its_place() {
    let decoder = "failed to decode Protobuf message: ";
    let inside =
        format!("{decoder}B.topic: A.open: invalid string value: data is not UTF-8 encoded");
    let problem = undecodable(&tonic::Status::internal(inside)).unwrap();
    assert_eq!(problem.reason, Reason::BadFrame);
    assert_eq!(problem.field.as_deref(), Some("open.topic"));
    let outside = format!("{decoder}invalid varint");
    assert_eq!(
        undecodable(&tonic::Status::internal(outside))
            .unwrap()
            .field,
        None
    );
    let long = "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes";
    let problem = undecodable(&tonic::Status::out_of_range(long)).unwrap();
    assert_eq!(problem.reason, Reason::MessageTooLarge);
    assert_eq!(undecodable(&tonic::Status::internal("h2 reset")), None);
}

#[test]
fn strangers_read_the_standard_details() {
    let status = to_status(&full(Reason::SequenceOutOfOrder));
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(
        (info.domain.as_str(), info.reason.as_str()),
        ("ledgerline", "SEQUENCE_OUT_OF_ORDER")
    );
    assert_eq!(info.metadata["expected"], "17");
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "open.topic"
    );
    let resource = details.resource_info().unwrap();
    assert_eq!(resource.resource_name, "tenants/a/namespaces/b/topics/c");
    let retry = details.retry_info().unwrap();
    assert_eq!(retry.retry_delay, Some(Duration::from_millis(1500)));
}

#[test]
fn one_problem_is_always_the_same_bytes() {
    let problem = full(Reason::NotOwner);
    assert_eq!(
        to_rpc(&problem).encode_to_vec(),
        to_rpc(&problem.clone()).encode_to_vec()
    );
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let status = to_status(&Problem::new(Reason::Internal, "é".repeat(MESSAGE_MAX)));
    assert_eq!(status.message().len(), MESSAGE_MAX);
    let odd = to_status(&Problem::new(
        Reason::Internal,
        format!("x{}", "é".repeat(MESSAGE_MAX)),
    ));
    assert_eq!(odd.message().len(), MESSAGE_MAX - 1);
}

#[test]
fn a_break_of_the_transport_leaves_the_outcome_open() {
    for status in [
        tonic::Status::unavailable("keep-alive timed out"),
        tonic::Status::unknown("transport error"),
        tonic::Status::cancelled("timeout expired"),
        tonic::Status::deadline_exceeded("too late"),
        tonic::Status::internal("h2 protocol error"),
    ] {
        assert_eq!(
            from_status(&status).reason,
            Reason::OutcomeUnknown,
            "{status:?}"
        );
        assert!(!was_never_sent(&status));
    }
}

#[test]
fn a_failed_connect_is_known_not_to_have_arrived() {
    let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
    let status = tonic::Status::from_error(Box::new(tonic::ConnectError(refused.into())));
    assert!(was_never_sent(&status));
    let problem = from_status(&status);
    assert_eq!(problem.reason, Reason::Unreachable);
    assert!(problem.message.contains("refused"), "{}", problem.message);
}

#[test]
fn details_of_strangers_and_garbage_are_not_believed() {
    let details = tonic_types::ErrorDetails::with_error_info(
        "NOT_OWNER",
        "elsewhere",
        [("a", "b")].map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let stranger = tonic::Status::with_error_details(Code::NotFound, "no", details);
    assert_eq!(from_status(&stranger).reason, Reason::Internal);
    let garbage = tonic::Status::with_details(Code::InvalidArgument, "no", vec![0xff; 40].into());
    assert_eq!(from_status(&garbage).reason, Reason::BadField);
    let mut newer = to_rpc(&full(Reason::LeaseLost));
    newer.details[0] = ErrorInfo {
        reason: "NEWER".to_owned(),
        domain: DOMAIN.to_owned(),
        ..ErrorInfo::default()
    }
    .pack();
    assert_eq!(from_rpc(&newer).reason, Reason::Internal);
}
