//! Configurations written for 0.1 to 0.3.5 of the original module.
//!
//! Each old directive warns once where it stands, then does what its successor does, in the
//! successor's slot. Settings that were once allowed in any block and now belong to `http` are
//! *hoisted*: they count wherever they stand, the first one read wins, and a later one that differs is
//! ignored with a warning.

use core::ffi::{CStr, c_char, c_void};

use ngx::ffi::{
    ngx_command_t, ngx_conf_set_flag_slot, ngx_conf_set_msec_slot, ngx_conf_set_num_slot,
    ngx_conf_set_sec_slot, ngx_conf_set_str_slot, ngx_conf_t, ngx_int_t, ngx_msec_t, ngx_str_t,
    time_t,
};

use crate::model::Delivery;
use crate::nginx::config::{MainConf, UNSET, UNSET_MSEC, UNSET_SECS};
use crate::nginx::location::Mode;
use crate::nginx::log::Level;
use crate::nginx::parse::{self, DUPLICATE, Parse, Refused};
use crate::nginx::{setters, zone};

/// What takes the place of a directive of old: a directive of today, or nothing.
const SUCCESSORS: [(&str, Option<&str>); 16] = [
    ("push_stream_max_reserved_memory", Some("push_stream_shared_memory_size")),
    ("push_stream_min_message_buffer_timeout", Some("push_stream_message_ttl")),
    ("push_stream_max_message_buffer_length", Some("push_stream_max_messages_stored_per_channel")),
    ("push_stream_subscriber_connection_timeout", Some("push_stream_subscriber_connection_ttl")),
    ("push_stream_broadcast_channel_prefix", Some("push_stream_wildcard_channel_prefix")),
    ("push_stream_broadcast_channel_max_qtd", Some("push_stream_wildcard_channel_max_qtd")),
    (
        "push_stream_max_number_of_broadcast_channels",
        Some("push_stream_max_number_of_wildcard_channels"),
    ),
    ("push_stream_memory_cleanup_timeout", None),
    ("push_stream_shared_memory_cleanup_objects_ttl", None),
    ("push_stream_websocket", Some("push_stream_subscriber websocket")),
    ("push_stream_eventsource_support", Some("push_stream_subscriber eventsource")),
    ("push_stream_publisher_admin", Some("push_stream_publisher admin")),
    ("push_stream_content_type", Some("default_type")),
    ("push_stream_keepalive", None),
    ("push_stream_subscriber_disconnect_interval", None),
    ("push_stream_min_message_buffer_length", None),
];

/// nginx's type of a function that sets a directive.
pub(super) type Setter =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

/// A setter that warns and then does what nginx's function does.
macro_rules! alias {
    ($(#[$doc:meta])* $name:ident, $slot:path) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// nginx calls it for a directive that it has found in our table.
        pub(super) unsafe extern "C" fn $name(
            cf: *mut ngx_conf_t,
            command: *mut ngx_command_t,
            conf: *mut c_void,
        ) -> *mut c_char {
            // SAFETY: nginx's own arguments.
            unsafe { warn_then(stringify!($name), $slot, cf, command, conf) }
        }
    };
}

alias!(
    /// An old name of a setting that is a number.
    alias_num,
    ngx_conf_set_num_slot
);
alias!(
    /// An old name of a setting that is a time in milliseconds.
    alias_msec,
    ngx_conf_set_msec_slot
);
alias!(
    /// An old setting that is a string.
    alias_str,
    ngx_conf_set_str_slot
);
alias!(
    /// An old switch.
    alias_flag,
    ngx_conf_set_flag_slot
);
alias!(
    /// An old name of `push_stream_shared_memory_size`.
    alias_zone,
    zone::set_size
);

/// # Safety
///
/// The arguments are those of a setter that nginx has called.
unsafe fn warn_then(
    name: &str,
    slot: Setter,
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        warn_deprecated(parse, name_of(command));
        // SAFETY: nginx's own arguments, passed on.
        outcome(unsafe { slot(cf, command, conf) })
    };
    // SAFETY: nginx's own arguments.
    unsafe { parse::setter(name, cf, body) }
}

/// A setter for a setting of `http` that old configurations may give in any block.
macro_rules! hoisted {
    ($(#[$doc:meta])* $name:ident, $type:ty, $slot:path) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// nginx calls it for a directive that it has found in our table.
        pub(super) unsafe extern "C" fn $name(
            cf: *mut ngx_conf_t,
            command: *mut ngx_command_t,
            conf: *mut c_void,
        ) -> *mut c_char {
            let body = |parse: &Parse| {
                // SAFETY: the row names a field of this type in the settings of `http`.
                unsafe { hoist::<$type>(parse, $slot, cf, command, conf) }
            };
            // SAFETY: nginx's own arguments.
            unsafe { parse::setter(stringify!($name), cf, body) }
        }
    };
}

hoisted!(
    /// A number of `http`.
    hoisted_num,
    ngx_int_t,
    ngx_conf_set_num_slot
);
hoisted!(
    /// A time in seconds of `http`.
    hoisted_sec,
    time_t,
    ngx_conf_set_sec_slot
);
hoisted!(
    /// A string of `http`.
    hoisted_str,
    ngx_str_t,
    ngx_conf_set_str_slot
);

/// A type that nginx's slot functions write.
trait Setting: Copy {
    /// "Not given".
    const NOT_GIVEN: Self;
    fn is_given(&self) -> bool;
    fn is_same(&self, other: &Self) -> bool;
    fn printed(&self) -> String;
}

macro_rules! numbers {
    ($($number:ty = $unset:expr),*) => {$(
        impl Setting for $number {
            const NOT_GIVEN: Self = $unset;
            fn is_given(&self) -> bool {
                *self != Self::NOT_GIVEN
            }
            fn is_same(&self, other: &Self) -> bool {
                self == other
            }
            fn printed(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers!(ngx_int_t = UNSET, time_t = UNSET_SECS, ngx_msec_t = UNSET_MSEC);

impl Setting for ngx_str_t {
    const NOT_GIVEN: Self = ngx_str_t::empty();
    fn is_given(&self) -> bool {
        !self.data.is_null()
    }
    fn is_same(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
    fn printed(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

/// # Safety
///
/// The arguments are those of a setter that nginx has called for a row whose offset is that of a
/// field of type `T` in [`MainConf`].
unsafe fn hoist<T: Setting>(
    parse: &Parse,
    slot: Setter,
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> Result<(), Refused> {
    let name = name_of(command);
    if !parse.in_http() || is_renamed(name) {
        warn_deprecated(parse, name);
    }
    // SAFETY: nginx's own argument.
    let offset = unsafe { (*command).offset };
    if !parse.main_conf().occurrences.insert(offset, parse.block()) {
        return Err(DUPLICATE);
    }
    let field = conf.cast::<MainConf>().wrapping_byte_add(offset).cast::<T>();
    // SAFETY: by this function's own contract. nginx refuses a slot that is taken, so it is emptied
    // for the call.
    let kept = unsafe { field.replace(T::NOT_GIVEN) };
    // SAFETY: nginx's own arguments, passed on.
    outcome(unsafe { slot(cf, command, conf) })?;
    if !kept.is_given() {
        return Ok(());
    }
    // SAFETY: as above.
    let given = unsafe { field.replace(kept) };
    if !kept.is_same(&given) {
        parse.say(
            Level::Warn,
            format_args!(
                "push stream module: value \"{}\" of the \"{name}\" directive is ignored, \
                 \"{}\" was given before",
                given.printed(),
                kept.printed()
            ),
        );
    }
    Ok(())
}

/// `push_stream_websocket;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_websocket(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx's own arguments.
    unsafe {
        parse::setter("legacy::set_websocket", cf, |parse| {
            warn_deprecated(parse, name_of(command));
            setters::choose_mode(parse, Mode::Subscriber(Delivery::WebSocket))
        })
    }
}

/// A setter for a directive of old that has no effect, and must be well formed all the same.
macro_rules! ignore {
    ($(#[$doc:meta])* $name:ident, $type:ty, $slot:path) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// nginx calls it for a directive that it has found in our table.
        pub(super) unsafe extern "C" fn $name(
            cf: *mut ngx_conf_t,
            command: *mut ngx_command_t,
            _conf: *mut c_void,
        ) -> *mut c_char {
            // The row has offset 0, so the value lands here and is forgotten.
            let mut value = <$type as Setting>::NOT_GIVEN;
            // SAFETY: nginx's own arguments, and room for the value.
            unsafe { warn_then(stringify!($name), $slot, cf, command, (&raw mut value).cast()) }
        }
    };
}

ignore!(
    /// A time that nothing depends on any more.
    ignore_time,
    ngx_msec_t,
    ngx_conf_set_msec_slot
);
ignore!(
    /// A number that nothing depends on any more.
    ignore_num,
    ngx_int_t,
    ngx_conf_set_num_slot
);
ignore!(
    /// A switch that nothing depends on any more.
    ignore_flag,
    ngx_int_t,
    ngx_conf_set_flag_slot
);

fn warn_deprecated(parse: &Parse, name: &str) {
    let successor = SUCCESSORS.iter().find(|(old, _)| *old == name).map(|(_, new)| *new);
    match successor {
        Some(None) => parse.say(
            Level::Warn,
            format_args!(
                "push stream module: the \"{name}\" directive is deprecated, it has no effect"
            ),
        ),
        Some(Some(new)) => parse.say(
            Level::Warn,
            format_args!(
                "push stream module: the \"{name}\" directive is deprecated, use \"{new}\" instead"
            ),
        ),
        // The name has stayed, but it belongs to `http` now.
        None => parse.say(
            Level::Warn,
            format_args!(
                "push stream module: the \"{name}\" directive is deprecated, use \"{name}\" \
                 instead at \"http\" level"
            ),
        ),
    }
}

fn is_renamed(name: &str) -> bool {
    SUCCESSORS.iter().any(|(old, _)| *old == name)
}

fn name_of<'a>(command: *mut ngx_command_t) -> &'a str {
    // SAFETY: nginx passes the row that it has found in our table, which is static.
    let name = unsafe { &(*command).name };
    name.to_str().unwrap_or_default()
}

/// What a slot function of nginx's returned, in our words.
fn outcome(returned: *mut c_char) -> Result<(), Refused> {
    if returned.is_null() {
        return Ok(());
    }
    if returned == parse::NGX_CONF_ERROR {
        return Err(Refused::Logged);
    }
    // SAFETY: anything else is the rest of a sentence, a literal of nginx's.
    Err(Refused::Because(unsafe { CStr::from_ptr(returned) }))
}
