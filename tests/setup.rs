//! `kes setup`: everything that a first start needs, nothing that is there overwritten, no link followed.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::{Command, Output},
};

use support::{Dir, Server};

fn setup(dir: &Dir, more: &[&str]) -> Output {
    let (config, data) = (dir.join("etc"), dir.join("data"));
    let mut command = dir.command(&["setup", "--config-dir"]);
    command.arg(config).arg("--data-dir").arg(data).args(more);
    if is_root() && !more.contains(&"--user") {
        command.args(["--user", "root"]);
    }
    command.output().unwrap()
}

fn is_root() -> bool {
    fs::metadata(Dir::new().path()).unwrap().uid() == 0
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn mode(dir: &Dir, name: &str) -> u32 {
    fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o7777
}

const FILES: [(&str, u32); 7] = [
    ("etc/private.key", 0o600),
    ("etc/public.crt", 0o644),
    ("etc/client.key", 0o600),
    ("etc/client.crt", 0o644),
    ("etc/config.yml", 0o640),
    ("data/keys", 0o700),
    ("data/keys.seal", 0o600),
];

#[test]
fn after_setup_the_server_starts_and_lets_minio_in() {
    let dir = Dir::new();
    let output = setup(&dir, &["--ip", "127.0.0.1", "--dns", "localhost"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, expected) in FILES {
        let expected = if name == "etc/private.key" && is_root() { 0o640 } else { expected };
        assert_eq!(mode(&dir, name), expected, "{name}");
    }
    let identity = dir.kes(&["identity", "of", "etc/client.crt"]);
    let identity = String::from_utf8(identity.stdout).unwrap().trim().to_owned();
    assert!(String::from_utf8(output.stdout).unwrap().contains(&identity));

    // As the helper for clients expects them.
    for (from, to) in [("public.crt", "server.crt"), ("client.crt", "app.crt"), ("client.key", "app.key")] {
        fs::copy(dir.join("etc").join(from), dir.join(to)).unwrap();
    }
    fs::copy(dir.join("etc/config.yml"), dir.join("config.yml")).unwrap();
    let server = Server::start_in(dir, identity, &["--addr", "127.0.0.1:0"]);
    let (status, text) = server.call("PUT", "/v1/key/create/minio-default-key", "");
    assert_eq!(status, 200, "{text}");
    let (status, text) = server.call("DELETE", "/v1/key/delete/minio-default-key", "");
    assert_eq!(status, 403, "MinIO may not do everything: {text}");
}

#[test]
fn what_is_there_is_kept_and_what_is_missing_is_made() {
    let dir = Dir::new();
    assert!(setup(&dir, &[]).status.success());
    let before: Vec<_> = FILES.iter().map(|(name, _)| fs::read(dir.join(name)).ok()).collect();
    fs::write(dir.join("etc/config.yml"), [&before[4].clone().unwrap()[..], b"# edited\n"].concat()).unwrap();
    let output = setup(&dir, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches("  kept ").count(), 3);
    for ((name, _), before) in FILES.iter().zip(&before) {
        let now = fs::read(dir.join(name)).ok();
        match *name {
            "etc/config.yml" => assert!(now.unwrap().ends_with(b"# edited\n")),
            name => assert!(now == *before, "{name} has changed"),
        }
    }

    fs::remove_file(dir.join("etc/client.crt")).unwrap();
    let text = error(&setup(&dir, &[]));
    assert!(text.contains("client.crt is missing"), "{text}");
    fs::remove_file(dir.join("etc/client.key")).unwrap();
    assert!(setup(&dir, &[]).status.success());
}

#[test]
fn a_configuration_that_the_server_refuses_is_reported() {
    let dir = Dir::new();
    fs::create_dir(dir.join("etc")).unwrap();
    dir.write("etc/config.yml", "version: v2\n");
    let text = error(&setup(&dir, &[]));
    assert!(text.contains("version") && text.contains("cannot start"), "{text}");
    assert_eq!(fs::read_to_string(dir.join("etc/config.yml")).unwrap(), "version: v2\n");
}

#[test]
fn places_that_others_can_write_to_and_links_are_refused() {
    let dir = Dir::new();
    fs::create_dir(dir.join("real")).unwrap();
    for name in ["etc", "data"] {
        symlink(dir.join("real"), dir.join(name)).unwrap();
        let text = error(&setup(&dir, &[]));
        assert!(text.contains("is not a directory"), "{text}");
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert_eq!(fs::read_dir(dir.join("real")).unwrap().count(), 0);

    if !is_root() {
        return; // An ordinary user has only his own places to lose.
    }
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::set_permissions(dir.join("etc"), fs::Permissions::from_mode(0o777)).unwrap();
    let text = error(&setup(&dir, &[]));
    assert!(text.contains("others than root can write"), "{text}");
    fs::set_permissions(dir.join("etc"), fs::Permissions::from_mode(0o755)).unwrap();

    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let text = error(&setup(&dir, &[]));
    assert!(text.contains("not a safe place"), "{text}");
}

#[test]
fn paths_and_users_that_make_no_sense_are_refused() {
    let dir = Dir::new();
    for path in ["relative", "/with space", "/", "/quote\"", ""] {
        let output = dir.kes(&["setup", "--config-dir", path]);
        assert!(error(&output).contains("config-dir"), "{path}: {}", error(&output));
    }
    let text = error(&dir.kes(&["setup", "--user", "no-such-user"]));
    assert!(text.contains(if is_root() { "there is no user 'no-such-user'" } else { "only root" }), "{text}");
}

/// The service user must not get root to write where his links lead, and must own what the server needs.
#[test]
fn root_makes_the_store_as_the_service_user() {
    if !is_root() {
        eprintln!("not root: skipped");
        return;
    }
    let nobody = |text: &str| Command::new("id").args([text, "nobody"]).output().unwrap().stdout;
    let uid: u32 = String::from_utf8(nobody("-u")).unwrap().trim().parse().unwrap();
    let gid: u32 = String::from_utf8(nobody("-g")).unwrap().trim().parse().unwrap();

    let dir = Dir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.join("kes");
    fs::copy(support::program(), &program).unwrap();
    let setup = || {
        let args = ["setup", "--user", "nobody", "--config-dir"];
        let mut command = Command::new(&program);
        command.args(args).arg(dir.join("etc")).arg("--data-dir").arg(dir.join("data"));
        command.output().unwrap()
    };
    let output = setup();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, owner, group) in [
        ("etc", 0, gid),
        ("etc/private.key", 0, gid),
        ("etc/config.yml", 0, gid),
        ("etc/client.key", 0, 0),
        ("data", uid, gid),
        ("data/keys", uid, gid),
        ("data/keys.seal", uid, gid),
    ] {
        let data = fs::metadata(dir.join(name)).unwrap();
        assert_eq!((data.uid(), data.gid()), (owner, group), "{name}");
    }
    assert_eq!((mode(&dir, "etc"), mode(&dir, "data")), (0o750, 0o700));

    // A restored file that the server cannot read is mended; a link in the user's own directory is not followed by root.
    std::os::unix::fs::chown(dir.join("etc/private.key"), Some(0), Some(0)).unwrap();
    fs::set_permissions(dir.join("etc/private.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(setup().status.success());
    assert_eq!(fs::metadata(dir.join("etc/private.key")).unwrap().gid(), gid);

    fs::create_dir(dir.join("roots")).unwrap();
    fs::set_permissions(dir.join("roots"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(dir.join("data/keys.seal")).unwrap();
    fs::remove_dir(dir.join("data/keys")).unwrap();
    symlink(dir.join("roots/keys"), dir.join("data/keys")).unwrap();
    error(&setup());
    assert_eq!(fs::read_dir(dir.join("roots")).unwrap().count(), 0);
}
