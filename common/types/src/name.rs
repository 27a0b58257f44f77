//! Names that users choose. One spelling each, checked once, safe in paths, logs and terminals.
//!
//! A single name is 1 to 255 bytes of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`. Full names are resource names
//! as in Google's AIP-122: `tenants/acme/namespaces/shop/topics/orders/subscriptions/billing`. A topic may also be
//! written short, `orders`, which means `tenants/default/namespaces/default/topics/orders`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than [`NameError::MAX_LEN`] bytes.
    #[error("a name has at most {max} bytes len={len}", max = NameError::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character outside `A-Z a-z 0-9 . _ -`, or the whole is `.` or `..`.
    #[error(
        "a name has letters, digits, '.', '_' and '-' only, and is not '.' or '..' name={name:?}"
    )]
    BadCharacter {
        /// The text, cut to a length fit for a message.
        name: String,
    },
    /// Not of the form expected.
    #[error("expected {expected} name={name:?}")]
    BadForm {
        /// The form expected.
        expected: &'static str,
        /// The text, cut to a length fit for a message.
        name: String,
    },
}

impl NameError {
    /// Most bytes of a single name.
    pub const MAX_LEN: usize = 255;
}

/// The tenant and the namespace of names written short.
const DEFAULT: &str = "default";

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NameError::MAX_LEN {
        return Err(NameError::TooLong { len: text.len() });
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !text.bytes().all(allowed) || text == "." || text == ".." {
        return Err(NameError::BadCharacter {
            name: shorten(text),
        });
    }
    Ok(())
}

/// Splits `a/x/b/y` along the collection names `a`, `b` …, checking each name between.
fn split<'a, const N: usize>(
    text: &'a str,
    collections: [&str; N],
    expected: &'static str,
) -> Result<[&'a str; N], NameError> {
    let bad = || NameError::BadForm {
        expected,
        name: shorten(text),
    };
    let mut parts = text.split('/');
    let mut names = [""; N];
    for (name, collection) in names.iter_mut().zip(collections) {
        if parts.next() != Some(collection) {
            return Err(bad());
        }
        *name = parts.next().ok_or_else(bad)?;
        check(name)?;
    }
    if parts.next().is_some() {
        return Err(bad());
    }
    Ok(names)
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

macro_rules! single {
    ($(#[$doc:meta])* $name:ident) => {
        text! { $(#[$doc])* $name }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }
    };
}

single! {
    /// A producer's name, chosen by the user: its epoch and sequence survive reconnects.
    ProducerName
}
single! {
    /// A consumer's name, chosen by the user.
    ConsumerName
}
single! {
    /// A node's name, unique among the nodes of its role in the cluster.
    NodeName
}
single! {
    /// A failure domain, such as a rack or an availability zone, as the operators name it.
    ZoneName
}
text! {
    /// `tenants/{tenant}`
    TenantName
}
text! {
    /// `tenants/{tenant}/namespaces/{namespace}`
    NamespaceName
}
text! {
    /// `tenants/{tenant}/namespaces/{namespace}/topics/{topic}`
    TopicName
}
text! {
    /// `tenants/{tenant}/namespaces/{namespace}/topics/{topic}/subscriptions/{subscription}`
    SubscriptionName
}

impl FromStr for TenantName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        split(text, ["tenants"], "tenants/{tenant}")?;
        Ok(Self(text.into()))
    }
}

impl FromStr for NamespaceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        split(
            text,
            ["tenants", "namespaces"],
            "tenants/{tenant}/namespaces/{namespace}",
        )?;
        Ok(Self(text.into()))
    }
}

impl FromStr for TopicName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !text.contains('/') {
            check(text)?;
            return Ok(Self(
                format!("tenants/{DEFAULT}/namespaces/{DEFAULT}/topics/{text}").into(),
            ));
        }
        const FORM: &str = "{topic} or tenants/{tenant}/namespaces/{namespace}/topics/{topic}";
        split(text, ["tenants", "namespaces", "topics"], FORM)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for SubscriptionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const FORM: &str =
            "{topic}/subscriptions/{subscription}, where {topic} is a topic's name, short or full";
        let bad = || NameError::BadForm {
            expected: FORM,
            name: shorten(text),
        };
        let (topic, name) = text.rsplit_once("/subscriptions/").ok_or_else(bad)?;
        let topic: TopicName = topic.parse()?;
        topic.subscription(name)
    }
}

impl TenantName {
    /// The tenant of names written short.
    pub fn default_tenant() -> Self {
        Self(format!("tenants/{DEFAULT}").into())
    }
}

impl NamespaceName {
    /// The namespace of names written short.
    pub fn default_namespace() -> Self {
        Self(format!("tenants/{DEFAULT}/namespaces/{DEFAULT}").into())
    }

    /// The tenant it belongs to.
    pub fn tenant(&self) -> TenantName {
        TenantName(parent(&self.0).into())
    }
}

impl TopicName {
    /// The namespace it belongs to.
    pub fn namespace(&self) -> NamespaceName {
        NamespaceName(parent(&self.0).into())
    }

    /// The last part of the name: `orders`.
    pub fn short(&self) -> &str {
        last(&self.0)
    }

    /// The subscription `name` of this topic.
    ///
    /// # Errors
    ///
    /// [`NameError`] when `name` is no single name.
    pub fn subscription(&self, name: &str) -> Result<SubscriptionName, NameError> {
        check(name)?;
        Ok(SubscriptionName(
            format!("{}/subscriptions/{name}", self.0).into(),
        ))
    }
}

impl SubscriptionName {
    /// The topic it belongs to.
    pub fn topic(&self) -> TopicName {
        TopicName(parent(&self.0).into())
    }

    /// The last part of the name: `billing`.
    pub fn short(&self) -> &str {
        last(&self.0)
    }
}

/// Cuts the last collection and name off a checked resource name.
fn parent(full: &str) -> &str {
    let cut = full.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at);
    &full[..cut]
}

fn last(full: &str) -> &str {
    full.rsplit_once('/').map_or(full, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_names_meet() {
        let short: TopicName = "orders".parse().unwrap();
        let full: TopicName = "tenants/default/namespaces/default/topics/orders"
            .parse()
            .unwrap();
        assert_eq!(short, full);
        assert_eq!(short.namespace(), NamespaceName::default_namespace());
        assert_eq!(short.namespace().tenant(), TenantName::default_tenant());
        let sub: SubscriptionName = "orders/subscriptions/billing".parse().unwrap();
        assert_eq!((sub.topic(), sub.short()), (full, "billing"));
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "",
            ".",
            "..",
            "a b",
            "a\0",
            "..%2f",
            "é",
            "a/b",
            "/",
            "topics/x",
            "\u{202e}x",
        ] {
            assert!(text.parse::<TopicName>().is_err(), "{text:?}");
        }
        assert!("x".repeat(256).parse::<TopicName>().is_err());
        assert!("x".repeat(255).parse::<TopicName>().is_ok());
        for text in [
            "a/subscriptions/",
            "a/subscriptions/..",
            "subscriptions/a",
            "a/b/subscriptions/c",
        ] {
            assert!(text.parse::<SubscriptionName>().is_err(), "{text:?}");
        }
    }
}
