//! The clients that an administrator lets in: addresses, networks, unix sockets, all.

use core::net::{IpAddr, Ipv6Addr};

/// One word of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `all`
    All,
    /// `unix:`
    Unix,
    /// The prefix of a network, as IPv6; IPv4 is mapped into it.
    Network {
        /// The bits of the network; the bits of the host are 0.
        bits: u128,
        /// The bits that are compared.
        mask: u128,
    },
}

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// It is connected over a unix socket.
    Unix,
    /// It has this address.
    Address(IpAddr),
}

impl Allowed {
    /// `<address>`, `<address>/<bits>`, `unix:` or `all`; `None` for anything else.
    pub fn parse(word: &[u8]) -> Option<Self> {
        match word {
            b"all" => return Some(Self::All),
            b"unix:" => return Some(Self::Unix),
            _ => {}
        }
        let text = core::str::from_utf8(word).ok()?;
        let (address, len) = match text.split_once('/') {
            Some((address, len)) if len.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(len.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let host = most - len.unwrap_or(most).min(most);
        if len.is_some_and(|len| len > most) {
            return None;
        }
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        Some(Self::Network { bits: mapped(address) & mask, mask })
    }

    /// Is the client one of these?
    pub fn lets_in(self, client: Client) -> bool {
        match (self, client) {
            (Self::All, _) | (Self::Unix, Client::Unix) => true,
            (Self::Network { bits, mask }, Client::Address(address)) => {
                mapped(address) & mask == bits
            }
            _ => false,
        }
    }
}

impl Client {
    /// The client runs on this machine.
    pub fn is_local(self) -> bool {
        match self {
            Self::Unix => true,
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

fn mapped(address: IpAddr) -> u128 {
    let address: Ipv6Addr = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    address.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        Client::Address(text.parse().expect("an address"))
    }

    #[test]
    fn a_word_lets_in_what_it_names() {
        let table: [(&str, &[&str], &[&str]); 6] = [
            ("10.0.0.1", &["10.0.0.1", "::ffff:10.0.0.1"], &["10.0.0.2", "::1"]),
            ("10.0.0.9/8", &["10.0.0.1", "10.255.0.1"], &["11.0.0.1", "a00::"]),
            ("0.0.0.0/0", &["1.2.3.4", "::ffff:1.2.3.4"], &["::1"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("2001:db8::/32", &["2001:db8:1::1"], &["2001:db9::1"]),
            ("::/0", &["::1", "10.0.0.1"], &[]),
        ];
        for (word, inside, outside) in table {
            let allowed = Allowed::parse(word.as_bytes()).expect(word);
            for address in inside {
                assert!(allowed.lets_in(client(address)), "{address} in {word}");
            }
            for address in outside {
                assert!(!allowed.lets_in(client(address)), "{address} not in {word}");
            }
            assert!(!allowed.lets_in(Client::Unix), "{word}");
        }
        assert!(Allowed::All.lets_in(Client::Unix) && Allowed::All.lets_in(client("::2")));
        assert!(Allowed::Unix.lets_in(Client::Unix) && !Allowed::Unix.lets_in(client("::1")));
    }

    #[test]
    fn anything_else_is_no_word() {
        for word in ["", "ALL", "unix", "10.0.0", "10.0.0.1/33", "10.0.0.1/", "::1/129", "a/b/c"] {
            assert_eq!(Allowed::parse(word.as_bytes()), None, "{word}");
        }
        assert_eq!(Allowed::parse(b"10.0.0.1/+8"), None);
        assert_eq!(Allowed::parse(b"\xff"), None);
    }

    #[test]
    fn loopback_is_local() {
        for address in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(client(address).is_local(), "{address}");
        }
        for address in ["128.0.0.1", "::2", "10.0.0.1", "::ffff:10.0.0.1"] {
            assert!(!client(address).is_local(), "{address}");
        }
        assert!(Client::Unix.is_local());
    }
}
