//! TLS proxies: who may say that a request is another client's (`config` §4 `tls.proxy`, `server-api` §1.5).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{ApiError, NOT_ALLOWED, Peer};
use crate::{
    http::Head,
    name::Identity,
    tls::{forwarded, identity::peer_of, verify::Trust, x509::Certificate},
};

const MISSING: ApiError = ApiError::new(400, "no client certificate is present");
const SEVERAL: ApiError = ApiError::new(400, "too many client certificates are present");
const INVALID: ApiError = ApiError::new(400, "invalid client certificate");

/// The proxies that are trusted, and how they forward certificates.
#[derive(Debug, Default)]
pub struct Proxies {
    /// Who they are. Everybody else's headers are not looked at.
    pub identities: Vec<Identity>,
    /// The header with the client's certificate.
    pub header: String,
    /// Forwarded certificates must chain to these roots, if there are some.
    pub trust: Option<Arc<Trust>>,
}

/// Whose request it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// The certificate's owner.
    pub peer: Peer,
    /// The address, for the logs.
    pub address: IpAddr,
}

impl Proxies {
    /// Whose request it is that `sender` has sent: his own, or if he is a proxy, the one that he names.
    pub fn client(&self, sender: Client, head: &Head) -> Result<Client, ApiError> {
        match sender.peer {
            Peer::Known(identity) if self.identities.contains(&identity) => {}
            _ => return Ok(sender),
        }
        let mut values = head.values(&self.header);
        let value = values.next().filter(|value| !value.trim_ascii().is_empty()).ok_or(MISSING)?;
        if values.next().is_some() {
            return Err(SEVERAL);
        }
        let certificate = forwarded::parse(value).ok_or(INVALID)?;
        Certificate::parse(&certificate).map_err(|_| INVALID)?;
        if self.trust.as_ref().is_some_and(|trust| !trust.accepts(&certificate)) {
            return Err(NOT_ALLOWED);
        }
        let peer = peer_of(std::slice::from_ref(&certificate));
        Ok(Client { peer, address: forwarded_address(head).unwrap_or(sender.address) })
    }
}

/// The first address of `X-Forwarded-For`, which may have a port.
fn forwarded_address(head: &Head) -> Option<IpAddr> {
    let value = std::str::from_utf8(head.values("x-forwarded-for").next()?).ok()?;
    let first = value.split(',').next()?.trim();
    let bare = first.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| Some(first.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        text::encode::base64,
        tls::{ApiKey, certificate},
    };

    const PROXY: Identity = Identity::new([9; 32]);
    const SENDER: Client =
        Client { peer: Peer::Known(PROXY), address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) };

    fn proxies() -> Proxies {
        Proxies { identities: vec![PROXY], header: "X-Tls-Client-Cert".into(), trust: None }
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::new();
        fields.iter().for_each(|(name, value)| head.push_field(name.as_bytes(), value.as_bytes()));
        head
    }

    /// A certificate in base64 and its identity.
    fn client() -> (String, Identity) {
        let key = ApiKey::generate().unwrap();
        let request = certificate::Request {
            common_name: "client",
            dns: &[],
            ips: &[],
            not_before: 1_700_000_000,
            not_after: 1_800_000_000,
        };
        (base64(&certificate::self_signed(&key, &request).unwrap()), key.identity())
    }

    #[test]
    fn a_proxy_speaks_for_the_client_that_it_names() {
        let (certificate, identity) = client();
        let fields =
            [("x-tls-client-cert", certificate.as_str()), ("x-forwarded-for", "192.0.2.7:99, 10.0.0.1")];
        let client = proxies().client(SENDER, &head(&fields)).unwrap();
        assert_eq!(client, Client { peer: Peer::Known(identity), address: [192, 0, 2, 7].into() });
    }

    #[test]
    fn headers_of_others_are_not_looked_at() {
        let (certificate, _) = client();
        let fields = [("x-tls-client-cert", certificate.as_str()), ("x-forwarded-for", "192.0.2.7")];
        for peer in [Peer::Known(Identity::new([1; 32])), Peer::NoCertificate, Peer::SeveralCertificates] {
            let sender = Client { peer, ..SENDER };
            assert_eq!(proxies().client(sender, &head(&fields)), Ok(sender));
        }
    }

    #[test]
    fn a_proxy_must_name_exactly_one_client() {
        let (certificate, _) = client();
        let field = ("x-tls-client-cert", certificate.as_str());
        for (fields, error) in [
            (&[][..], MISSING),
            (&[("x-tls-client-cert", " ")], MISSING),
            (&[("client-cert", certificate.as_str())], MISSING),
            (&[field, field], SEVERAL),
            (&[("x-tls-client-cert", "nonsense")], INVALID),
            (&[("x-tls-client-cert", "AAAA")], INVALID),
        ] {
            assert_eq!(proxies().client(SENDER, &head(fields)), Err(error), "{fields:?}");
        }
    }

    #[test]
    fn the_first_forwarded_address_counts_if_it_is_one() {
        for (value, address) in [
            ("192.0.2.7", Some("192.0.2.7")),
            (" 192.0.2.7 , 10.0.0.1", Some("192.0.2.7")),
            ("192.0.2.7:1234", Some("192.0.2.7")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("unknown, 192.0.2.7", None),
            ("", None),
        ] {
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(forwarded_address(&head(&[("X-Forwarded-For", value)])), expected, "{value}");
        }
    }
}
