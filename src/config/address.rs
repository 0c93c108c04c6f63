//! Listen addresses: `[IP]:PORT`, where the port may be the name of a service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Where the server listens unless told otherwise.
pub(super) const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7373);

/// Services that are known without the system's table.
const SERVICES: [(&str, u16); 2] = [("http", 80), ("https", 443)];

/// Reads `[HOST]:PORT`. No host means all IPv4 interfaces. With `may_be_name` the host may be a name, which is
/// resolved; otherwise it must be an IP address.
pub(super) fn parse(text: &str, may_be_name: bool) -> Result<SocketAddr, String> {
    let (host, port) = split(text).map_err(|problem| format!("the address {text:?} {problem}"))?;
    let Some(port) = port_number(port) else {
        return Err(format!(
            "the address {text:?} has no valid port: {port:?} is neither 0 to 65535 nor a service"
        ));
    };
    if host.is_empty() {
        return Ok(SocketAddr::new(DEFAULT.ip(), port));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if !may_be_name {
        return Err(format!("the address {text:?} is not valid: {host:?} is no IP address"));
    }
    let resolved = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    resolved.ok_or_else(|| format!("the address {text:?} is not valid: the host {host:?} is not known"))
}

/// Host without brackets, and port.
fn split(text: &str) -> Result<(&str, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("lacks a closing bracket")?;
        let port = rest.strip_prefix(':').ok_or("has no port: write [IP]:PORT")?;
        return Ok((host, port));
    }
    let (host, port) = text.rsplit_once(':').ok_or("has no port: write IP:PORT or :PORT")?;
    match host.contains(':') {
        true => Err("has too many colons: write an IPv6 address in brackets, as in [::1]:7373"),
        false => Ok((host, port)),
    }
}

fn port_number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let known = SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
    known.or_else(|| find_service(&std::fs::read_to_string("/etc/services").ok()?, text))
}

/// The TCP port of a service in the text of a services(5) file.
fn find_service(table: &str, name: &str) -> Option<u16> {
    table.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let first = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        (first == name || words.any(|alias| alias == name)).then(|| port.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_an_ip_and_a_port() {
        for (text, address) in [
            ("0.0.0.0:7373", "0.0.0.0:7373"),
            (":7373", "0.0.0.0:7373"),
            ("[::1]:7373", "[::1]:7373"),
            ("[::]:0", "[::]:0"),
            ("[]:1", "0.0.0.0:1"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:http", "127.0.0.1:80"),
            (":https", "0.0.0.0:443"),
            ("[127.0.0.1]:65535", "127.0.0.1:65535"),
        ] {
            assert_eq!(parse(text, false).unwrap().to_string(), address, "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_a_reason() {
        for (text, part) in [
            ("127.0.0.1", "has no port"),
            ("17451", "has no port"),
            ("[::1]", "has no port"),
            ("[::1", "closing bracket"),
            ("::1:7373", "too many colons"),
            ("127.0.0.1:", "no valid port"),
            ("127.0.0.1:99999", "no valid port"),
            ("127.0.0.1:-1", "no valid port"),
            ("127.0.0.1:no-such-service", "no valid port"),
            ("localhost:7373", "no IP address"),
            ("1.2.3:7373", "no IP address"),
            ("", "has no port"),
        ] {
            let problem = parse(text, false).expect_err(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn a_host_name_is_resolved_where_it_is_allowed() {
        assert!(parse("localhost:7373", true).unwrap().ip().is_loopback());
        assert!(parse("no such host:7373", true).unwrap_err().contains("is not known"));
    }

    #[test]
    fn services_are_found_by_name_and_alias() {
        let table = "# comment\nkes 7373/udp\nkes\t7373/tcp  kms key-server # the server\nbad x/tcp\n";
        assert_eq!(find_service(table, "kes"), Some(7373));
        assert_eq!(find_service(table, "key-server"), Some(7373));
        assert_eq!(find_service(table, "the"), None);
        assert_eq!(find_service(table, "bad"), None);
    }
}
