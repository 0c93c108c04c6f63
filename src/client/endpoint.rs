//! Where servers are: `HOST`, `HOST:PORT`, `https://HOST` (`cli` §2).

use std::{
    net::{IpAddr, Ipv6Addr, ToSocketAddrs},
    time::{Duration, Instant},
};

use crate::sys::network::interface_addresses;

/// The port of a bare host.
const PORT: u16 = 7373;

/// The port of a host in a URL.
const URL_PORT: u16 = 443;

/// How long an endpoint that failed is tried only after all others.
const AVOIDED: Duration = Duration::from_secs(30);

/// One server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    avoided_until: Option<Instant>,
}

impl Endpoint {
    /// Reads `HOST[:PORT]`, also with `https://` (then without a port 443 instead of 7373) or `http://` in front.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |cause: &str| format!("invalid endpoint '{text}': {cause}");
        let (rest, default) = match text.strip_prefix("https://") {
            Some(rest) => (rest, URL_PORT),
            None => (text.strip_prefix("http://").unwrap_or(text), PORT),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) || rest.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(invalid("it must be a host and a port"));
        }
        let (host, port) = if rest.parse::<Ipv6Addr>().is_ok() {
            (rest, None)
        } else if let Some((host, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(invalid("there is no IPv6 address in the brackets"));
            }
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) })
        } else {
            rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        let port = match port {
            None => default,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| invalid("bad port"))?,
        };
        Ok(Self { host: host.to_owned(), port, avoided_until: None })
    }

    /// `HOST:PORT`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The addresses behind the name.
    pub fn resolve(&self) -> std::io::Result<Vec<std::net::SocketAddr>> {
        (self.host.as_str(), self.port).to_socket_addrs().map(Iterator::collect)
    }

    /// It has failed.
    pub fn avoid(&mut self) {
        self.avoided_until = Instant::now().checked_add(AVOIDED);
    }

    /// Whether it has failed a short while ago.
    pub fn is_avoided(&self) -> bool {
        self.avoided_until.is_some_and(|until| until > Instant::now())
    }
}

/// Those on this host first, then those on a local network, then the rest, each group in its order.
pub fn sort(endpoints: &mut [Endpoint]) {
    let own = interface_addresses();
    endpoints.sort_by_key(|endpoint| match endpoint.host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() || own.contains(&ip) => 0,
        Err(_) if endpoint.host == "localhost" => 0,
        Ok(IpAddr::V4(ip)) if ip.is_private() || ip.is_link_local() => 1,
        Ok(IpAddr::V6(ip)) if ip.is_unique_local() || ip.is_unicast_link_local() => 1,
        _ => 2,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_gets_the_port_of_this_protocol_and_a_url_that_of_https() {
        for (text, authority) in [
            ("127.0.0.1", "127.0.0.1:7373"),
            ("kes.example.net:1", "kes.example.net:1"),
            ("http://kes", "kes:7373"),
            ("https://kes", "kes:443"),
            ("https://kes:7373/", "kes:7373"),
            ("::1", "[::1]:7373"),
            ("[::1]", "[::1]:7373"),
            ("[::1]:80", "[::1]:80"),
            ("https://[::1]", "[::1]:443"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().authority(), authority, "{text}");
        }
        for text in [
            "", ":7373", "https://", "a:b", "a:0", "a:65536", "a:1:2", "[::1", "[::1]1", "[a]:1", "a/b",
            "a b", "u@a", "a:",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers_nearby_come_first() {
        let mut endpoints: Vec<Endpoint> =
            ["kes.example.net", "10.255.255.1", "8.8.8.8", "localhost", "127.0.0.1", "fd00::1"]
                .iter()
                .map(|text| Endpoint::parse(text).unwrap())
                .collect();
        sort(&mut endpoints);
        let hosts: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.host.as_str()).collect();
        assert_eq!(
            hosts,
            ["localhost", "127.0.0.1", "10.255.255.1", "fd00::1", "kes.example.net", "8.8.8.8"]
        );
    }
}
