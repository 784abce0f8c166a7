//! Refusals: the one place that knows the status and the explain text of each.

use core::fmt;

use crate::model::Operation;
use crate::store::counters::REFUSALS_MAX;

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
    /// All of them; each stands at its [number](Refusal::number). Lack of memory is one.
    pub const ALL: [Self; 11] = [
        Self::NoChannelId,
        Self::NotAuthorized,
        Self::ChannelIdTooLarge,
        Self::EmptyPost,
        Self::TooManyChannels,
        Self::EventsChannelIsInternal,
        Self::MayNotCreateChannels,
        Self::TooManySubscribers,
        Self::TooManyWildcardChannels,
        Self::EventsChannelNotAllowed,
        Self::NoMemory { message: false },
    ];

    /// Its place in a table with a row for each.
    pub const fn number(self) -> usize {
        match self {
            Self::NoChannelId => 0,
            Self::NotAuthorized => 1,
            Self::ChannelIdTooLarge => 2,
            Self::EmptyPost => 3,
            Self::TooManyChannels => 4,
            Self::EventsChannelIsInternal => 5,
            Self::MayNotCreateChannels => 6,
            Self::TooManySubscribers => 7,
            Self::TooManyWildcardChannels => 8,
            Self::EventsChannelNotAllowed => 9,
            Self::NoMemory { .. } => 10,
        }
    }

    /// What metrics call it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoChannelId => "no_channel_id",
            Self::NotAuthorized => "not_authorized",
            Self::ChannelIdTooLarge => "channel_id_too_large",
            Self::EmptyPost => "empty_post",
            Self::TooManyChannels => "too_many_channels",
            Self::EventsChannelIsInternal => "events_channel_is_internal",
            Self::MayNotCreateChannels => "may_not_create_channels",
            Self::TooManySubscribers => "too_many_subscribers",
            Self::TooManyWildcardChannels => "too_many_wildcard_channels",
            Self::EventsChannelNotAllowed => "events_channel_not_allowed",
            Self::NoMemory { .. } => "no_memory",
        }
    }

    /// Can a request that wants this be refused for it?
    pub const fn is_possible_for(self, operation: Operation) -> bool {
        match self {
            Self::NoChannelId | Self::NotAuthorized | Self::ChannelIdTooLarge => true,
            Self::EmptyPost => matches!(operation, Operation::Publish),
            Self::EventsChannelIsInternal => !matches!(operation, Operation::Subscribe),
            Self::TooManyChannels | Self::NoMemory { .. } => {
                !matches!(operation, Operation::Delete)
            }
            Self::MayNotCreateChannels
            | Self::TooManySubscribers
            | Self::TooManyWildcardChannels
            | Self::EventsChannelNotAllowed => matches!(operation, Operation::Subscribe),
        }
    }

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

const _: () = assert!(Refusal::ALL.len() <= REFUSALS_MAX);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain().unwrap_or("no memory"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_row_for_each() {
        assert!(Refusal::ALL.iter().enumerate().all(|(row, one)| one.number() == row));
    }

    #[test]
    fn lack_of_memory_is_the_only_one_without_an_explanation() {
        assert_eq!(Refusal::NoMemory { message: true }.explain(), None);
        assert_eq!(Refusal::EmptyPost.status(), 400);
        assert_eq!(Refusal::TooManySubscribers.status(), 403);
    }
}
