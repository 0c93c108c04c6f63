//! `kes setup`: the key pairs, the configuration and the sealed key store that a first start needs. What is there is kept.
//!
//! Root makes files in directories of root alone. What lies in the service user's own directory is made by a child that
//! runs as that user, so that a link which he has put there leads nowhere that he could not go himself.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    net::IpAddr,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode, Stdio},
};

use super::{
    Failure,
    args::Args,
    identity::new::{Names, lifetime},
    pair::Pair,
    table::{Command, Takes, flag},
    term,
};
use crate::{
    name::Identity,
    sys,
    text::time::Timestamp,
    tls::{ApiKey, certificate, identity::identity_of, pem, x509::Certificate},
};

/// The entry in the table of commands.
pub static SETUP: Command = Command {
    name: "setup",
    summary: "Make what a first start needs.",
    about: "Makes the server's key pair, a key pair for MinIO, the configuration and the sealed key store, for the user\n\
            that the server runs as. What is there already is kept. Says at the end what to do next.\n",
    flags: &[
        flag("config-dir", Takes::Value("DIR"), "Where the configuration goes (default: /etc/kes)."),
        flag("data-dir", Takes::Value("DIR"), "Where the keys go (default: /var/lib/kes)."),
        flag("user", Takes::Value("NAME"), "The user that the server runs as (default: kes)."),
        flag("ip", Takes::List("IP"), "An address of the server, for its certificate (default: all it has)."),
        flag(
            "dns",
            Takes::List("NAME"),
            "A name of the server, for its certificate (default: its host name).",
        ),
        flag("expiry", Takes::Value("DURATION"), "How long the certificates are valid (default: 87600h)."),
    ],
    examples: &["kes setup", "kes setup --dns kes.example.net --ip 10.1.2.3"],
    run,
    ..Command::GROUP
};

/// Ten years in seconds: a certificate that ends unnoticed stops the whole storage.
const DEFAULT_EXPIRY: i64 = 87_600 * 3600;

/// The configuration that the packages carry as an example.
const TEMPLATE: &str = include_str!("../../packaging/config.yml");

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let place = Place::new(args)?;
    let names = names(args)?;
    let lifetime = lifetime(args, DEFAULT_EXPIRY)?;
    place.make_directories()?;
    let server = place.pair("private.key", "public.crt", "kes", &names, lifetime)?;
    let nothing = Names { dns: Vec::new(), ips: Vec::new() };
    let client = place.pair("client.key", "client.crt", "MinIO", &nothing, lifetime)?;
    let identity = place.identity("client.crt")?;
    let config = place.config(&identity)?;
    place.make_store()?;
    let mut text = String::from("\n");
    for (made, what) in [
        (server, "the server's key pair: private.key, public.crt"),
        (client, "MinIO's key pair: client.key, client.crt"),
        (config, "the configuration: config.yml"),
    ] {
        text += &format!("  {} {what}\n", if made { "made" } else { "kept" });
    }
    text += &place.next_steps(&identity);
    term::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Where everything goes and whose it is.
struct Place {
    config: PathBuf,
    data: PathBuf,
    /// The user that the server runs as, if we are root; otherwise everything is ours.
    service: Option<User>,
}

/// A user of the system.
#[derive(Clone, PartialEq, Eq, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl Place {
    fn new(args: &Args) -> Result<Self, Failure> {
        let directory = |flag: &str, default: &str| {
            let path = args.text(flag)?.unwrap_or(default);
            // It is written into the configuration.
            let is_plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
            let path = Path::new(path);
            if !is_plain || !path.is_absolute() || path.file_name().is_none() {
                return Err(args.invalid(
                    flag,
                    path.as_ref(),
                    "not an absolute path of letters, digits and ./_-",
                ));
            }
            Ok(path.to_owned())
        };
        let (config, data) = (directory("config-dir", "/etc/kes")?, directory("data-dir", "/var/lib/kes")?);
        let user = args.text("user")?;
        let service = match sys::process::effective_user() {
            0 => Some(service_user(user.unwrap_or("kes"))?),
            _ if user.is_some() => return Err(args.mistake("only root can use --user")),
            _ => None,
        };
        Ok(Self { config, data, service })
    }

    /// The directories, if they are missing. An existing one must be safe to use.
    fn make_directories(&self) -> Result<(), Failure> {
        let service = self.service.as_ref();
        if service.is_some() {
            check_parents(&self.config)?;
            check_parents(&self.data)?;
        }
        if make_directory(&self.config)? {
            own(&self.config, Some(0), service, 0o750)?;
        }
        if service.is_some() && !is_safe(&look_at(&self.config)?) {
            let text = format!("others than root can write to {}", self.config.display());
            return Err(Failure::with_hint(text, "Give it to root, with mode 0750."));
        }
        let is_new = make_directory(&self.data)?;
        let owner = look_at(&self.data)?.uid();
        match service {
            Some(user) if is_new || owner == 0 => own(&self.data, Some(user.uid), service, 0o700),
            Some(user) if owner != user.uid => {
                let text = format!("{} belongs neither to {} nor to root", self.data.display(), user.name);
                Err(Failure::with_hint(text, format!("chown -R {0}: {1}", user.name, self.data.display())))
            }
            _ => Ok(()),
        }
    }

    /// Makes a key pair unless there is one. The server's key can be read by its group, MinIO's by root alone.
    fn pair(
        &self,
        key: &str,
        cert: &str,
        subject: &str,
        names: &Names,
        lifetime: i64,
    ) -> Result<bool, Failure> {
        let (key, cert) = (self.config.join(key), self.config.join(cert));
        let reader = self.service.as_ref().filter(|_| key.ends_with("private.key"));
        let exists = [&key, &cert].map(|path| fs::symlink_metadata(path).is_ok());
        if exists == [true, true] {
            self.mend(&key, reader)?;
            return Ok(false);
        }
        if exists != [false, false] {
            let (there, missing) = if exists[0] { (&key, &cert) } else { (&cert, &key) };
            let text = format!("{} is there, but {} is missing", there.display(), missing.display());
            return Err(Failure::with_hint(text, "Put it there, or move the other one away."));
        }
        let api_key = ApiKey::generate()?;
        let now = Timestamp::now().seconds;
        let request = certificate::Request {
            common_name: subject,
            dns: &names.dns,
            ips: &names.ips,
            not_before: now,
            not_after: now.saturating_add(lifetime),
        };
        let certificate = certificate::self_signed(&api_key, &request)?;
        let text = pem::encode("PRIVATE KEY", &[], &api_key.to_pkcs8());
        Pair::new(&key, &cert, false)?.write(&text, &pem::encode("CERTIFICATE", &[], &certificate))?;
        own(&key, None, reader, if reader.is_some() { 0o640 } else { 0o600 })?;
        own(&cert, None, None, 0o644)?;
        Ok(true)
    }

    /// The identity of a certificate in the configuration's directory.
    fn identity(&self, name: &str) -> Result<Identity, Failure> {
        let path = self.config.join(name);
        let document = pem::parse(&pem::read_file(&path)?);
        let block = document.blocks.iter().find(|block| block.label == "CERTIFICATE");
        let certificate = block.and_then(|block| Certificate::parse(&block.bytes).ok());
        let certificate = certificate.ok_or_else(|| format!("{} holds no certificate", path.display()))?;
        Ok(identity_of(certificate.public_key))
    }

    /// Makes the configuration unless there is one.
    fn config(&self, identity: &Identity) -> Result<bool, Failure> {
        let path = self.config.join("config.yml");
        let text = config_text(&self.config, &self.data, identity);
        match sys::file::create_durably(&path, text.as_bytes(), "setup") {
            Ok(()) => own(&path, None, self.service.as_ref(), 0o640).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.mend(&path, self.service.as_ref())?;
                Ok(false)
            }
            Err(error) => Err(failure("create", &path, &error)),
        }
    }

    /// Lets the service user read a file that was there, if it is root's own and he cannot. Links are left alone.
    fn mend(&self, path: &Path, reader: Option<&User>) -> Result<(), Failure> {
        let Some(user) = reader else { return Ok(()) };
        let data = look_at(path)?;
        let may_read = data.mode() & 0o004 != 0
            || (data.gid() == user.gid && data.mode() & 0o040 != 0)
            || data.uid() == user.uid;
        match data.is_file() && data.uid() == 0 && !may_read {
            true => own(path, None, Some(user), 0o640),
            false => Ok(()),
        }
    }

    /// Has the server open its key store, as its own user: that makes directory and seal file, and shows that it can start.
    fn make_store(&self) -> Result<(), Failure> {
        let config = self.config.join("config.yml");
        let program =
            std::env::current_exe().map_err(|error| Failure::new(format!("cannot find myself: {error}")))?;
        let mut child = Process::new(&program);
        child.args(["server", "--check=connect", "--config"]).arg(&config);
        child.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(user) = &self.service {
            // With the user id the standard library drops the supplementary groups, too.
            child.uid(user.uid).gid(user.gid);
        }
        match child.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(Failure::new(format!("the server cannot start with {} yet", config.display()))),
            Err(error) => Err(failure("run", &program, &error)),
        }
    }

    fn next_steps(&self, identity: &Identity) -> String {
        let (config, data) = (self.config.display(), self.data.display());
        let is_packaged = self.service.is_some() && self.config == Path::new("/etc/kes");
        let start = match is_packaged {
            true if Path::new("/run/systemd/system").exists() => "systemctl enable --now kes".to_owned(),
            true if Path::new("/run/openrc").exists() => {
                "rc-update add kes && rc-service kes start".to_owned()
            }
            _ => format!("kes server --config {config}/config.yml"),
        };
        format!(
            "\n\
             Start the server:\n\
             \n    {start}\n\
             \n\
             Copy client.key, client.crt and public.crt from {config} to MinIO's machine, and start MinIO with:\n\
             \n    export MINIO_KMS_KES_ENDPOINT=https://HOST:7373\n    \
             export MINIO_KMS_KES_CERT_FILE=client.crt\n    \
             export MINIO_KMS_KES_KEY_FILE=client.key\n    \
             export MINIO_KMS_KES_CAPATH=public.crt\n    \
             export MINIO_KMS_KES_KEY_NAME=minio-default-key\n\
             \n\
             MinIO's identity, which the policy in config.yml names:\n\
             \n    {identity}\n\
             \n\
             Back up {data}/keys and {data}/keys.seal, apart from each other: neither is worth anything alone.\n"
        )
    }
}

/// The names for the server's certificate: those that were given, or all that the machine seems to have.
fn names(args: &Args) -> Result<Names, Failure> {
    let mut names = Names::new(args, "")?;
    if !names.dns.is_empty() || !names.ips.is_empty() {
        return Ok(names);
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    names.dns.push("localhost".into());
    let host = Names { dns: Vec::new(), ips: vec![IpAddr::from([127, 0, 0, 1])] }.with_subject(host.trim());
    names.dns.extend(host.dns.into_iter().filter(|name| name != "localhost"));
    names.ips = host.ips;
    names.ips.extend(sys::network::interface_addresses().into_iter().filter(|ip| !ip.is_loopback()));
    Ok(names)
}

fn config_text(config: &Path, data: &Path, identity: &Identity) -> String {
    TEMPLATE
        .replace("/etc/kes/", &format!("{}/", config.display()))
        .replace("/var/lib/kes/", &format!("{}/", data.display()))
        .replace("identities: [] ", &format!("identities: [{identity}] "))
}

fn service_user(name: &str) -> Result<User, Failure> {
    let list = fs::read_to_string("/etc/passwd")
        .map_err(|error| failure("read", Path::new("/etc/passwd"), &error))?;
    find_user(&list, name).ok_or_else(|| {
        Failure::with_hint(
            format!("there is no user '{name}' in /etc/passwd"),
            "Make it with 'useradd --system --user-group kes', or name another with --user.",
        )
    })
}

/// passwd(5): `name:password:uid:gid:…`.
fn find_user(list: &str, name: &str) -> Option<User> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let user = || Some(User { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? });
        if found == name { user() } else { None }
    })
}

/// Whether nobody but root can change the names in a directory, or it lets everybody change only his own.
fn is_safe(directory: &fs::Metadata) -> bool {
    directory.uid() == 0 && (directory.mode() & 0o022 == 0 || directory.mode() & 0o1000 != 0)
}

/// Every directory above must be safe: who can rename one of them could have root write anywhere.
pub(super) fn check_parents(path: &Path) -> Result<(), Failure> {
    let parent = sys::file::parent_of(path);
    let real = fs::canonicalize(parent).map_err(|error| failure("look at", parent, &error))?;
    for directory in real.ancestors() {
        let data = fs::metadata(directory).map_err(|error| failure("look at", directory, &error))?;
        if !is_safe(&data) {
            let text = format!(
                "{} is not a safe place: others can write to {}",
                path.display(),
                directory.display()
            );
            return Err(Failure::new(text));
        }
    }
    Ok(())
}

/// Whether the directory had to be made. A link in its place is refused.
fn make_directory(path: &Path) -> Result<bool, Failure> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            sys::file::sync_dir(sys::file::parent_of(path))
                .map_err(|error| failure("write", path, &error))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let data = look_at(path)?;
            match data.is_dir() {
                true => Ok(false),
                false => Err(Failure::new(format!("{} is not a directory", path.display()))),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Failure::with_hint(
            format!("create {}: {}", path.display(), pem::cause(&error)),
            "Run it as root, or choose directories of your own with --config-dir and --data-dir.",
        )),
        Err(error) => Err(failure("create", path, &error)),
    }
}

/// Sets mode, and where root does this the owner and the group of `group`, of a file or directory that is no link.
fn own(path: &Path, owner: Option<u32>, group: Option<&User>, mode: u32) -> Result<(), Failure> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let set = |file: File| {
        if group.is_some() {
            fchown(&file, owner, group.map(|user| user.gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.and_then(set).map_err(|error| failure("set the owner of", path, &error))
}

/// What is there, not what it leads to.
fn look_at(path: &Path) -> Result<fs::Metadata, Failure> {
    fs::symlink_metadata(path).map_err(|error| failure("look at", path, &error))
}

fn failure(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{verb} {}: {}", path.display(), pem::cause(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_filled_in_completely() {
        let identity = Identity::parse(&"ab".repeat(32)).unwrap();
        let text = config_text(Path::new("/etc/other"), Path::new("/srv/kes"), &identity);
        for line in [
            "  key: /etc/other/private.key\n",
            "  cert: /etc/other/public.crt\n",
            &format!("    identities: [{identity}] #"),
            "    path: /srv/kes/keys # sealed under the root key in /srv/kes/keys.seal\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert!(!text.contains("/etc/kes/") && !text.contains("/var/lib/kes/"), "{text}");
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let list = "root:x:0:0:root:/root:/bin/sh\nkes2:x:7:7::/:\nkes:x:998:997:KES:/var/lib/kes:/usr/sbin/nologin\nodd\n";
        let user = User { name: "kes".into(), uid: 998, gid: 997 };
        assert_eq!(find_user(list, "kes"), Some(user));
        for nobody in ["ke", "x", "", "odd"] {
            assert_eq!(find_user(list, nobody), None, "{nobody}");
        }
        assert_eq!(find_user("kes:x:-1:0:", "kes"), None);
    }
}
