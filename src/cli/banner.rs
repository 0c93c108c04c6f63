//! What the server prints when it starts and after a reload (`server-api` §7.7).

use std::net::{IpAddr, SocketAddr};

use super::setup::Setup;
use crate::{net::Limits, sys};

/// The banner. `addresses` are those of the API and, if there is one, of the listener for probes.
pub fn text(
    setup: &Setup,
    addresses: &[SocketAddr],
    locked: bool,
    sandbox: &str,
    limits: &Limits,
    last_line: &str,
) -> String {
    let config = &setup.config;
    let mut banner = Banner(String::new());
    banner.line("Version", &format!("{}  commit={}", crate::api::VERSION, crate::api::COMMIT));
    banner.line("Runtime", &format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH));
    banner.line("License", "Apache-2.0  https://www.apache.org/licenses/LICENSE-2.0");
    banner.gap();
    banner.line("KMS", &setup.keyring.describe_store());
    for (i, notice) in setup.store_notices.iter().enumerate() {
        banner.line(if i == 0 { "Seal" } else { "" }, notice);
    }
    let (api, probe) = (addresses.first(), addresses.get(1));
    for (i, address) in api.map(|api| reachable(*api)).unwrap_or_default().iter().enumerate() {
        banner.line(if i == 0 { "API" } else { "" }, &format!("· https://{address}"));
    }
    if let Some(probe) = probe {
        banner.line("Probes", &format!("· http://{probe}"));
    }
    banner.gap();
    if let Some(api_key) = &setup.api_key {
        banner.line("API Key", &api_key.to_text());
    }
    let admin = &config.policies.admin;
    let is_hex = admin.bytes().all(|b| b.is_ascii_hexdigit());
    banner.line("Admin", if is_hex { admin } else { "<disabled>" });
    banner.line("Auth", if config.tls.verify_clients { "verify" } else { "skip verify" });
    let proxies = config.tls.proxies.len();
    if proxies > 0 {
        banner.line("Proxies", &format!("{proxies} trusted, by {}", config.tls.proxy_header));
    }
    banner.line("Logs", &format!("error=stderr level={}", crate::log::level_name(config.log.error)));
    if config.log.audit <= crate::log::INFO {
        banner.line("", &format!("audit=stdout level={}", crate::log::level_name(config.log.audit)));
    }
    if let Some(file) = &config.log.file {
        banner.line("", &format!("audit={}", file.display()));
    }
    if locked {
        banner.line("MLock", "enabled");
    }
    banner.line("Sandbox", sandbox);
    let Limits { workers, blocking_threads, queue, connections, .. } = *limits;
    banner.line("Limits", &format!("{connections} connections, {workers} workers, {blocking_threads} blocking threads, {queue} queued jobs"));
    format!("{}\n{last_line}\n\n", banner.0)
}

/// Lines of a label, padded to 12 columns, and a text.
struct Banner(String);

impl Banner {
    fn line(&mut self, label: &str, text: &str) {
        self.0 += &format!("{label:<12}{text}\n");
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

/// The addresses at which the server can be reached: its own, or those of all interfaces (IPv6 only without IPv4).
pub fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let all = sys::network::interface_addresses();
    let has_v4 = all.iter().any(IpAddr::is_ipv4);
    all.into_iter()
        .filter(|ip| ip.is_ipv4() == has_v4)
        .map(|ip| SocketAddr::new(ip, address.port()))
        .collect()
}
