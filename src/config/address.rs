//! Where to listen: `[IP]:PORT`, a host name, or a port alone after a colon.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Resolves an address. A port may be the name of a service.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| is_whole(host)) else {
        return Err(format!("invalid address '{text}': missing port in address"));
    };
    let port = match port.parse::<u16>() {
        Ok(port) => port,
        Err(_) => service(port).ok_or_else(|| format!("invalid address '{text}': '{port}' is not a port"))?,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((ip, port).into());
    }
    let mut addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("invalid address '{text}': {error}"))?;
    addresses.next().ok_or_else(|| format!("invalid address '{text}': '{host}' has no address"))
}

/// An IPv6 address without brackets is not cut at its last colon.
fn is_whole(host: &str) -> bool {
    (host.starts_with('[') && host.ends_with(']')) || !host.contains(':')
}

fn service(name: &str) -> Option<u16> {
    let services = std::fs::read_to_string("/etc/services").ok()?;
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let is_named = !name.is_empty() && (first == name || words.any(|alias| alias == name));
        is_named.then(|| port.strip_suffix("/tcp")?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_resolved() {
        for (text, address) in [
            ("127.0.0.1:7373", "127.0.0.1:7373"),
            (":7373", "0.0.0.0:7373"),
            ("[::1]:7373", "[::1]:7373"),
            ("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), address);
        }
        assert!(parse("localhost:7373").unwrap().ip().is_loopback());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "127.0.0.1",
            "17451",
            "",
            "::1",
            "::1:7373",
            "127.0.0.1:99999",
            "127.0.0.1:",
            "127.0.0.1:no-such-service",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("17451").unwrap_err().contains("missing port"));
    }
}
