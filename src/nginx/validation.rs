//! Checks the whole configuration: what is missing, and what contradicts itself, in a fixed order.
//!
//! The settings of `http` come first, then each location of the module with all that it has
//! inherited. The texts of the errors are part of the interface, because people search for them. An
//! error about a location names the line of the directive that chooses its mode. Without a location
//! of the module nothing is checked.

use core::ptr::NonNull;

use ngx::ffi::{ngx_int_t, ngx_msec_t, ngx_test_config, time_t};

use crate::nginx::config::{LocationConf, UNSET, UNSET_MSEC};
use crate::nginx::location::{ChannelsPath, Mode, PaddingRule};
use crate::nginx::log::{self, Level};
use crate::nginx::parse::{Parse, Place, Refused};
use crate::nginx::regex::Regex;
use crate::nginx::variables::{self, Legacy};
use crate::nginx::{exposure, journal};
use crate::session::Framing;
use crate::store::CHANNEL_ID_LEN_MAX;
use crate::wire::{padding, path};

/// The longest time of a setting. Nobody needs a longer one, and sums of two times cannot overflow.
const TIME_MAX_SECS: time_t = 100 * 31_557_600;

/// Checks the configuration, and makes the settings for requests.
pub(super) fn finish(parse: &Parse) -> Result<(), Refused> {
    variables::resolve(parse)?;
    journal::resolve(parse);
    if !parse.main_conf().is_active() {
        return Ok(());
    }
    check_http(parse)?;
    for conf in core::mem::take(&mut parse.main_conf().locations) {
        finish_location(parse, conf)?;
    }
    exposure::warn(parse);
    if is_test() {
        // A start writes these lines when the error log is open; a test of the configuration prints
        // them.
        for note in core::mem::take(&mut parse.main_conf().notes) {
            log::write(Level::Info, parse.log(), format_args!("{note}"));
        }
    }
    Ok(())
}

/// This is `nginx -t`.
fn is_test() -> bool {
    // SAFETY: a static of nginx's, set before it reads any configuration.
    unsafe { ngx_test_config != 0 }
}

fn check_http(parse: &Parse) -> Result<(), Refused> {
    let conf = parse.main_conf();
    if conf.zone.is_none() {
        return refuse_http(parse, "push_stream_shared_memory_size must be set.");
    }
    let numbers: [(ngx_int_t, &str); 6] = [
        (conf.max_number_of_channels, "push_stream_max_number_of_channels cannot be zero."),
        (
            conf.max_number_of_wildcard_channels,
            "push_stream_max_number_of_wildcard_channels cannot be zero.",
        ),
        (is_zero(conf.message_ttl), "push_stream_message_ttl cannot be zero."),
        (
            conf.max_subscribers_per_channel,
            "push_stream_max_subscribers_per_channel cannot be zero.",
        ),
        (
            conf.max_messages_stored_per_channel,
            "push_stream_max_messages_stored_per_channel cannot be zero.",
        ),
        (conf.max_channel_id_length, "push_stream_max_channel_id_length cannot be zero."),
    ];
    if let Some((_, text)) = numbers.iter().find(|(value, _)| *value == 0) {
        return refuse_http(parse, text);
    }
    let times = [
        (conf.message_ttl, "push_stream_message_ttl cannot be longer than 100 years."),
        (
            conf.channel_inactivity_time,
            "push_stream_channel_inactivity_time cannot be longer than 100 years.",
        ),
    ];
    if let Some((_, text)) = times.iter().find(|(value, _)| *value > TIME_MAX_SECS) {
        return refuse_http(parse, text);
    }
    let events = conf.events_channel_id.as_bytes();
    if !can_be_channel_id(events) {
        // The line must have room for the accepted form as well.
        let shown = String::from_utf8_lossy(events);
        let shown: String = shown.chars().take(100).flat_map(char::escape_debug).collect();
        let text = format!(
            "invalid push_stream_events_channel_id value: {shown}, it must be a channel id of at most \
             {CHANNEL_ID_LEN_MAX} bytes, without \"/\", \"*\" and control characters, and not ALL"
        );
        return refuse_http(parse, &text);
    }
    Ok(())
}

/// A request can name this id.
fn can_be_channel_id(id: &[u8]) -> bool {
    id.len() <= CHANNEL_ID_LEN_MAX && path::is_authorised(id) && !id.contains(&b'/')
}

/// 0 for zero, so that it fits into a table of numbers of another type.
fn is_zero(seconds: time_t) -> ngx_int_t {
    ngx_int_t::from(seconds != 0)
}

fn refuse_http<T>(parse: &Parse, text: &str) -> Result<T, Refused> {
    parse.say(Level::Error, format_args!("push stream module: {text}"));
    Err(Refused::Logged)
}

fn refuse_location<T>(parse: &Parse, place: &Place, text: &str) -> Result<T, Refused> {
    parse.say_at(Level::Error, place, format_args!("push stream module: {text}"));
    Err(Refused::Logged)
}

fn finish_location(parse: &Parse, mut conf: NonNull<LocationConf>) -> Result<(), Refused> {
    // SAFETY: registered by its own `merge`, lives as long as the configuration; one at a time.
    let conf = unsafe { conf.as_mut() };
    let place = &conf.place;
    if conf.event_source_support == 1 && !conf.is_subscriber_with_text() {
        let text = "event source support is only available on subscriber location";
        let place = if conf.mode.is_some() { place.clone() } else { parse.place() };
        return refuse_location(parse, &place, text);
    }
    let Some(mode) = conf.mode else { return Ok(()) };
    let channels_path = channels_path(parse, conf, mode)?;
    check_location(parse, conf, mode)?;
    let padding = match mode {
        Mode::Subscriber(_) => {
            parse.main_conf().has_subscribers = true;
            padding_rules(parse, conf)?
        }
        _ => Vec::new(),
    };
    let location = conf.finish(mode, channels_path, padding);
    conf.finished = Some(Box::new(location));
    Ok(())
}

fn channels_path(parse: &Parse, conf: &LocationConf, mode: Mode) -> Result<ChannelsPath, Refused> {
    if let Some(value) = NonNull::new(conf.channels_path) {
        return Ok(ChannelsPath::Directive(value));
    }
    let order = match mode {
        Mode::Subscriber(_) => [Legacy::ChannelsPath, Legacy::ChannelId],
        // These concern no channel.
        Mode::Audit | Mode::Metrics => return Ok(ChannelsPath::Variables([None, None])),
        Mode::Statistics | Mode::Publisher { .. } => [Legacy::ChannelId, Legacy::ChannelsPath],
    };
    let variables = &parse.main_conf().legacy_variables;
    let Some(used) = order.into_iter().find(|which| variables.index(*which).is_some()) else {
        let text = "push_stream_channels_path must be set.";
        return refuse_location(parse, &conf.place, text);
    };
    if !conf.is_copy {
        parse.say_at(
            Level::Warn,
            &conf.place,
            format_args!(
                "push stream module: \"set ${}\" is deprecated, use \"push_stream_channels_path\"",
                used.name()
            ),
        );
    }
    Ok(ChannelsPath::Variables(order.map(|which| variables.index(which))))
}

fn check_location(parse: &Parse, conf: &LocationConf, mode: Mode) -> Result<(), Refused> {
    let main = parse.main_conf();
    let refuse = |text: &str| refuse_location(parse, &conf.place, text);
    let times: [(ngx_msec_t, &str); 4] = [
        (conf.retry, "push_stream_retry cannot be zero."),
        (conf.ping_message_interval, "push_stream_ping_message_interval cannot be zero."),
        (conf.subscriber_connection_ttl, "push_stream_subscriber_connection_ttl cannot be zero."),
        (conf.longpolling_connection_ttl, "push_stream_longpolling_connection_ttl cannot be zero."),
    ];
    if let Some((_, text)) = times.iter().find(|(value, _)| *value == 0) {
        return refuse(text);
    }
    let needs_template = conf.framing(mode) != Framing::EventSource && !conf.sends_json();
    if conf.message_template.is_empty() && needs_template {
        return refuse("push_stream_message_template cannot be blank.");
    }
    if conf.wildcard_channel_max_qtd == 0 {
        return refuse("push_stream_wildcard_channel_max_qtd cannot be zero.");
    }
    if conf.wildcard_channel_max_qtd != UNSET {
        if main.wildcard_channel_prefix.is_empty() {
            return refuse(
                "cannot set wildcard channel max qtd if push_stream_wildcard_channel_prefix \
                 is not set or blank.",
            );
        }
        if main.max_number_of_wildcard_channels != UNSET
            && main.max_number_of_wildcard_channels < conf.wildcard_channel_max_qtd
        {
            return refuse(
                "max number of wildcard channels cannot be smaller than value in \
                 push_stream_wildcard_channel_max_qtd.",
            );
        }
    }
    if conf.websocket_max_message_size == 0 {
        return refuse("push_stream_websocket_max_message_size cannot be zero.");
    }
    if conf.subscriber_max_buffered == 0 {
        return refuse("push_stream_subscriber_max_buffered cannot be zero.");
    }
    let times: [(ngx_msec_t, &str); 4] = [
        (conf.retry, "push_stream_retry cannot be longer than 100 years."),
        (
            conf.ping_message_interval,
            "push_stream_ping_message_interval cannot be longer than 100 years.",
        ),
        (
            conf.subscriber_connection_ttl,
            "push_stream_subscriber_connection_ttl cannot be longer than 100 years.",
        ),
        (
            conf.longpolling_connection_ttl,
            "push_stream_longpolling_connection_ttl cannot be longer than 100 years.",
        ),
    ];
    let too_long = |msec: ngx_msec_t| msec != UNSET_MSEC && msec / 1000 > TIME_MAX_SECS as usize;
    match times.iter().find(|(value, _)| too_long(*value)) {
        Some((_, text)) => refuse(text),
        None => Ok(()),
    }
}

fn padding_rules(parse: &Parse, conf: &LocationConf) -> Result<Vec<PaddingRule>, Refused> {
    let refuse = |text: &str| {
        parse.say_at(Level::Error, &conf.place, format_args!("push stream module: {text}"));
    };
    let unusable = || {
        refuse("push stream module: unable to parse paddings by user agent");
        Refused::Logged
    };
    let groups = padding::parse(conf.padding_by_user_agent.as_bytes()).map_err(|bad| {
        refuse(&bad.to_string());
        unusable()
    })?;
    let mut rules = Vec::with_capacity(groups.len());
    for group in groups {
        let user_agent = Regex::compile(group.pattern, parse.pool()).map_err(|reason| {
            refuse(&reason);
            unusable()
        })?;
        let main = parse.main_conf();
        let (header_min, message_min) = (group.header_min, group.message_min);
        if !conf.is_copy {
            main.notes.push(format!(
                "push stream module: padding detected {}, header_min_len {header_min}, \
                 message_min_len {message_min}",
                String::from_utf8_lossy(group.pattern),
            ));
        }
        main.padding_max = main.padding_max.max(header_min).max(message_min);
        rules.push(PaddingRule { user_agent, header_min, message_min });
    }
    Ok(rules)
}
