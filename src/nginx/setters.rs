//! Setters of directives that need more than one of nginx's slot functions.

use core::ffi::{CStr, c_char, c_void};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::{fs, io};

use ngx::ffi::{ngx_command_t, ngx_conf_t, ngx_flag_t, ngx_str_t};

use crate::model::Delivery;
use crate::nginx::config::{
    LocationConf, MessageFormat, Publisher, SlowSubscriber, UNSET, UNSET_SIZE,
};
use crate::nginx::handlers;
use crate::nginx::location::{Mode, Origin, Origins};
use crate::nginx::log::Level;
use crate::nginx::parse::{self, DUPLICATE, Parse, Refused};
use crate::nginx::regex::Regex;
use crate::wire::allow::Allowed;
use crate::wire::sse::BlankLines;
use crate::wire::template::{JSON_WORDS, Template};
use crate::wire::{handshake, origin};

/// Header template and header template file set the same thing.
const HEADER_GIVEN: Refused =
    Refused::Because(c"is duplicate or template set by 'push_stream_header_template'");

/// With messages as JSON, a template of the same level would never be used.
const TEMPLATE_AND_JSON: Refused = Refused::Because(
    c"cannot be used: push_stream_message_template and push_stream_message_format json exclude each other",
);

/// `push_stream_channels_statistics;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_statistics(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_statistics", cf, |parse| choose_mode(parse, Mode::Statistics)) }
}

/// `push_stream_audit on | off;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_audit(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| switch_on(parse, |conf| &mut conf.audit, Mode::Audit);
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_audit", cf, body) }
}

/// `push_stream_audit_allow <address> | <network> | unix: | all ...;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_audit_allow(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        let list = parse.location_conf().audit_allow.get_or_insert_default();
        allow(parse, "push_stream_audit_allow", list)
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_audit_allow", cf, body) }
}

/// `push_stream_metrics on | off;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_metrics(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| switch_on(parse, |conf| &mut conf.metrics, Mode::Metrics);
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_metrics", cf, body) }
}

/// `push_stream_metrics_allow <address> | <network> | unix: | all ...;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_metrics_allow(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        let list = parse.location_conf().metrics_allow.get_or_insert_default();
        allow(parse, "push_stream_metrics_allow", list)
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_metrics_allow", cf, body) }
}

/// A flag that makes the location one of this mode when it is on.
fn switch_on(
    parse: &Parse,
    flag: impl FnOnce(&mut LocationConf) -> &mut ngx_flag_t,
    mode: Mode,
) -> Result<(), Refused> {
    let flag = flag(parse.location_conf());
    if *flag != UNSET {
        return Err(DUPLICATE);
    }
    let word = parse.argument(0);
    let is_on = word.eq_ignore_ascii_case(b"on");
    *flag = ngx_flag_t::from(is_on);
    if is_on {
        choose_mode(parse, mode)
    } else if word.eq_ignore_ascii_case(b"off") {
        Ok(())
    } else {
        Err(Refused::Because(c"must be \"on\" or \"off\""))
    }
}

/// Adds the arguments to a list of clients.
fn allow(parse: &Parse, directive: &str, list: &mut Vec<Allowed>) -> Result<(), Refused> {
    for word in parse.arguments() {
        let Some(allowed) = Allowed::parse(word.as_bytes()) else {
            parse.say(
                Level::Error,
                format_args!(
                    "push stream module: invalid {directive} value: {}, it must be an address, a \
                     network, unix: or all",
                    String::from_utf8_lossy(word.as_bytes())
                ),
            );
            return Err(Refused::Logged);
        };
        list.push(allowed);
    }
    Ok(())
}

/// `push_stream_publisher [normal | admin];`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_publisher(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe {
        parse::setter("set_publisher", cf, |parse| {
            let modes = [
                ("normal", Mode::Publisher { admin: false }),
                ("admin", Mode::Publisher { admin: true }),
            ];
            choose_mode_by_word(parse, "push_stream_publisher", &modes)
        })
    }
}

/// `push_stream_subscriber [streaming | polling | long-polling | eventsource | websocket];`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_subscriber(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe {
        parse::setter("set_subscriber", cf, |parse| {
            let modes = [
                ("streaming", Mode::Subscriber(Delivery::Streaming)),
                ("polling", Mode::Subscriber(Delivery::Polling)),
                ("long-polling", Mode::Subscriber(Delivery::LongPolling)),
                ("eventsource", Mode::Subscriber(Delivery::EventSource)),
                ("websocket", Mode::Subscriber(Delivery::WebSocket)),
            ];
            choose_mode_by_word(parse, "push_stream_subscriber", &modes)
        })
    }
}

/// The meaning of the only word, in whatever case. `otherwise`: why another one is refused.
fn choose<T: Copy>(
    parse: &Parse,
    words: [(&str, T); 2],
    otherwise: &'static CStr,
) -> Result<T, Refused> {
    let word = parse.argument(0);
    let chosen = words.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    chosen.map(|(_, meaning)| *meaning).ok_or(Refused::Because(otherwise))
}

/// Chooses the mode that the word names; without a word the first one.
fn choose_mode_by_word(
    parse: &Parse,
    directive: &str,
    modes: &[(&str, Mode)],
) -> Result<(), Refused> {
    if parse.location_conf().mode.is_some() {
        return Err(DUPLICATE);
    }
    let word = parse.argument(0);
    let wanted = if parse.arguments().is_empty() {
        modes.first()
    } else {
        modes.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
    };
    let Some((_, mode)) = wanted else {
        let accepted: Vec<&str> = modes.iter().map(|(name, _)| *name).collect();
        parse.say(
            Level::Error,
            format_args!(
                "push stream module: invalid {directive} mode value: {}, accepted values ({})",
                String::from_utf8_lossy(word),
                accepted.join(", ")
            ),
        );
        return Err(Refused::Logged);
    };
    choose_mode(parse, *mode)
}

/// Gives the location its mode.
pub(super) fn choose_mode(parse: &Parse, mode: Mode) -> Result<(), Refused> {
    let conf = parse.location_conf();
    if conf.mode.is_some() {
        return Err(DUPLICATE);
    }
    conf.mode = Some(mode);
    conf.handler = handlers::of(mode);
    conf.place = parse.place();
    parse.main_conf().enabled = true;
    if let Mode::Publisher { .. } = mode {
        parse.main_conf().publishers.push(Publisher::new(parse));
    }
    parse.core_location().handler = handlers::of(mode);
    Ok(())
}

/// `push_stream_eventsource_blank_lines drop | keep;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_blank_lines(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        let conf = parse.location_conf();
        if conf.blank_lines.is_some() {
            return Err(DUPLICATE);
        }
        let words = [("drop", BlankLines::Drop), ("keep", BlankLines::Keep)];
        conf.blank_lines = Some(choose(parse, words, c"must be \"drop\" or \"keep\"")?);
        Ok(())
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_blank_lines", cf, body) }
}

/// `push_stream_message_template <text>;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_message_template(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_message_template", cf, read_message_template) }
}

fn read_message_template(parse: &Parse) -> Result<(), Refused> {
    let conf = parse.location_conf();
    if !conf.message_template.data.is_null() {
        return Err(DUPLICATE);
    }
    if conf.sends_json() {
        return Err(TEMPLATE_AND_JSON);
    }
    if let Some(word) = Template::unknown_word(parse.argument(0)) {
        parse.say(
            Level::Error,
            format_args!(
                "push stream module: invalid push_stream_message_template value: {}, accepted words ({JSON_WORDS})",
                String::from_utf8_lossy(word)
            ),
        );
        return Err(Refused::Logged);
    }
    conf.message_template = *parse.arguments().first().ok_or(Refused::Because(c"invalid value"))?;
    Ok(())
}

/// `push_stream_message_format template | json;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_message_format(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        let conf = parse.location_conf();
        if conf.message_format.is_some() {
            return Err(DUPLICATE);
        }
        let words = [("template", MessageFormat::Template), ("json", MessageFormat::Json)];
        conf.message_format = Some(choose(parse, words, c"must be \"template\" or \"json\"")?);
        if conf.sends_json() && !conf.message_template.data.is_null() {
            return Err(TEMPLATE_AND_JSON);
        }
        Ok(())
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_message_format", cf, body) }
}

/// `push_stream_slow_subscriber disconnect | skip;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_slow_subscriber(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        let conf = parse.location_conf();
        if conf.slow_subscriber.is_some() {
            return Err(DUPLICATE);
        }
        let words = [("disconnect", SlowSubscriber::Disconnect), ("skip", SlowSubscriber::Skip)];
        conf.slow_subscriber = Some(choose(parse, words, c"must be \"disconnect\" or \"skip\"")?);
        Ok(())
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_slow_subscriber", cf, body) }
}

/// `push_stream_websocket_protocols <name> ... | off;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_websocket_protocols(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_websocket_protocols", cf, read_protocols) }
}

fn read_protocols(parse: &Parse) -> Result<(), Refused> {
    if parse.location_conf().websocket_protocols.is_some() {
        return Err(DUPLICATE);
    }
    let words = parse.arguments();
    let mut values = Vec::with_capacity(words.len());
    for (number, word) in words.iter().enumerate() {
        let name = word.as_bytes();
        if name == b"off" && words.len() == 1 {
            break;
        }
        let refuse = |reason: &str| {
            parse.say(
                Level::Error,
                format_args!(
                    "push stream module: invalid push_stream_websocket_protocols value: {}, it must {reason}",
                    String::from_utf8_lossy(name)
                ),
            );
            Err(Refused::Logged)
        };
        if name == b"off" {
            return refuse("stand alone");
        }
        // A name with variables is checked when its value is known.
        if !name.contains(&b'$') && !handshake::is_token(name) {
            return refuse("be the name of a subprotocol");
        }
        if words.iter().take(number).any(|earlier| earlier.as_bytes() == name) {
            return refuse("not be given twice");
        }
        values.push(parse.complex_value(*word)?);
    }
    parse.location_conf().websocket_protocols = Some(values);
    Ok(())
}

/// `push_stream_allowed_origins <value> | <origin> | ~<pattern> ...;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_allowed_origins(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_allowed_origins", cf, read_origins) }
}

fn read_origins(parse: &Parse) -> Result<(), Refused> {
    if parse.location_conf().allowed_origins.is_some() {
        return Err(DUPLICATE);
    }
    let words = parse.arguments();
    let origins = match words {
        [only] if !only.as_bytes().starts_with(b"~") => Origins::Said(parse.complex_value(*only)?),
        list => Origins::Listed(
            list.iter()
                .map(|word| read_origin(parse, word.as_bytes()))
                .collect::<Result<_, _>>()?,
        ),
    };
    parse.location_conf().allowed_origins = Some(origins);
    Ok(())
}

/// One of a list.
fn read_origin(parse: &Parse, word: &[u8]) -> Result<Origin, Refused> {
    let refuse = |reason: &str| {
        parse.say(
            Level::Error,
            format_args!(
                "push stream module: invalid push_stream_allowed_origins value: {}, {reason}",
                String::from_utf8_lossy(word)
            ),
        );
        Refused::Logged
    };
    let pattern = match (word.strip_prefix(b"~*"), word.strip_prefix(b"~")) {
        (Some(pattern), _) => Regex::compile_caseless(pattern, parse.pool()),
        (None, Some(pattern)) => Regex::compile(pattern, parse.pool()),
        (None, None) if origin::is_origin(word) => return Ok(Origin::Exact(word.to_vec())),
        (None, None) => {
            return Err(refuse(
                "each one of a list must be an origin such as https://example.com, or a regular \
                 expression that begins with ~ or ~*",
            ));
        }
    };
    pattern.map(Origin::Pattern).map_err(|reason| refuse(&reason))
}

/// `push_stream_cors_headers <name> ...;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_cors_headers(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        let list = parse.location_conf().cors_headers.get_or_insert_default();
        for word in parse.arguments() {
            let name = word.as_bytes();
            if !handshake::is_token(name) {
                parse.say(
                    Level::Error,
                    format_args!(
                        "push stream module: invalid push_stream_cors_headers value: {}, it must be \
                         the name of a header",
                        String::from_utf8_lossy(name)
                    ),
                );
                return Err(Refused::Logged);
            }
            list.push(name.to_vec());
        }
        Ok(())
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_cors_headers", cf, body) }
}

/// A number of bytes. nginx's own slot function for sizes does not know `g`.
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table, for a field of type `usize`.
pub(super) unsafe extern "C" fn set_size(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        // SAFETY: nginx's own argument.
        let offset = unsafe { (*command).offset };
        let field = conf.wrapping_byte_add(offset).cast::<usize>();
        // SAFETY: the row names a field of this type, and nobody else looks at it now.
        let field = unsafe { &mut *field };
        if *field != UNSET_SIZE {
            return Err(DUPLICATE);
        }
        *field = parse.size_argument().ok_or(Refused::Because(c"invalid value"))?;
        Ok(())
    };
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_size", cf, body) }
}

/// `push_stream_header_template_file <path>;`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_header_template_file(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("set_header_template_file", cf, read_header_template) }
}

fn read_header_template(parse: &Parse) -> Result<(), Refused> {
    if !parse.location_conf().header_template.data.is_null() {
        return Err(HEADER_GIVEN);
    }
    let path = parse.argument(0);
    let template = parse
        .full_name(path)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
        .and_then(|path| fs::read(OsStr::from_bytes(&path)));
    let template = match template {
        Ok(template) => template,
        Err(error) => {
            parse.say_errno(
                Level::Error,
                error.raw_os_error().unwrap_or(0),
                format_args!(
                    "push stream module: unable to open file \"{}\" for header template",
                    String::from_utf8_lossy(path)
                ),
            );
            return Err(Refused::Logged);
        }
    };
    // SAFETY: the pool is live, and the copy lives as long as it.
    let kept = unsafe { ngx_str_t::from_bytes(parse.pool().as_ptr(), &template) };
    parse.location_conf().header_template = kept.ok_or(Refused::Logged)?;
    Ok(())
}
