//! Refusals: the one place that knows the status and the explain text of each.

use core::fmt;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path names no channel.
    NoChannelId,
    /// `ALL`, a `*`, or a control character in an id.
    NotAuthorized,
    /// An id over the limit.
    ChannelIdTooLarge,
    /// A publish without content.
    EmptyPost,
    /// A new channel, or wildcard channel, over the limit.
    TooManyChannels,
    /// A client wants to change the events channel.
    EventsChannelIsInternal,
    /// `push_stream_authorized_channels_only`, and the channel has no message.
    MayNotCreateChannels,
    /// A channel has as many subscribers as it may have.
    TooManySubscribers,
    /// More wildcard channels than a request may name, or wildcard channels only.
    TooManyWildcardChannels,
    /// A subscription to the events channel where it is not allowed.
    EventsChannelNotAllowed,
    /// The zone is full.
    NoMemory {
        /// A message did not fit, not a channel or a subscription.
        message: bool,
    },
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::NoChannelId | Self::ChannelIdTooLarge | Self::EmptyPost => 400,
            Self::NoMemory { .. } => 500,
            _ => 403,
        }
    }

    /// The value of `X-Nginx-PushStream-Explain`; `None`: the answer has no such header.
    pub const fn explain(self) -> Option<&'static str> {
        Some(match self {
            Self::NoChannelId => "No channel id provided.",
            Self::NotAuthorized => "Channel id not authorized for this method.",
            Self::ChannelIdTooLarge => "Channel id is too large.",
            Self::EmptyPost => "Empty post requests are not allowed.",
            Self::TooManyChannels => "Number of channels were exceeded.",
            Self::EventsChannelIsInternal => "Only internal routines can change events channel.",
            Self::MayNotCreateChannels => "Subscriber could not create channels.",
            Self::TooManySubscribers => "Subscribers limit per channel has been exceeded.",
            Self::TooManyWildcardChannels => "Subscribed too much wildcard channels.",
            Self::EventsChannelNotAllowed => "Subscription to events channel is not allowed.",
            Self::NoMemory { .. } => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain().unwrap_or("no memory"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_is_the_only_one_without_an_explanation() {
        assert_eq!(Refusal::NoMemory { message: true }.explain(), None);
        assert_eq!(Refusal::EmptyPost.status(), 400);
        assert_eq!(Refusal::TooManySubscribers.status(), 403);
    }
}
