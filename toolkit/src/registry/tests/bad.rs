//! Registries that fail, and machines that are not set up for one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fs_err as fs;

use super::server::{Fake, Reply, Request};
use super::{NAME, image, patience, text};
use crate::images::Reference;
use crate::registry::{
    access::Access,
    client::{Patience, Registry},
    credentials::Files,
    error::Error,
};

/// Pushes to a registry that answers so; the error, and the requests that it got.
fn pushed(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Error, Vec<String>) {
    let (fake, dir) = (Fake::start(reply), tempfile::tempdir().unwrap());
    image(dir.path(), "one");
    let access = Access { insecure_loopback: true, ..Access::default() };
    let mut registry = Registry::with(&fake.name(), &access, &Files(vec![]), patience()).unwrap();
    let to = Reference::new(&format!("{}/one", fake.name()), "v1").unwrap();
    (registry.push(dir.path(), NAME, &[to], |_| ()).unwrap_err(), fake.seen())
}

fn count(seen: &[String], start: &str) -> usize {
    seen.iter().filter(|request| request.starts_with(start)).count()
}

/// A registry with nothing in it that takes uploads as far as `put` says.
fn empty(request: &Request, put: Reply) -> Reply {
    match request.line.split_once(' ') {
        Some(("GET", "/v2/")) => Reply::status(200),
        Some(("POST", _)) => Reply::Answer(202, "Location: /v2/one/blobs/uploads/1\r\n".into(), ""),
        Some(("PUT", _)) => put,
        _ => Reply::status(404),
    }
}

#[test]
fn a_full_disk_of_the_registry_is_tried_again_and_then_said() {
    let full = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Op":"write","Err":28}}]}"#;
    let (error, seen) = pushed(move |request| empty(request, Reply::Answer(500, String::new(), full)));
    assert!(matches!(error, Error::Failing { status: 500, attempts: 3, .. }), "{error:?}");
    assert!(text(&error).contains(r#"3 times (HTTP status 500): unknown error {"Err":28,"Op":"write"}"#), "{error}");
    assert!(text(&error).contains("a full disk looks like this"), "{}", text(&error));
    assert_eq!(count(&seen, "PUT"), 3, "{seen:?}");
    assert_eq!(count(&seen, "POST"), 3, "each attempt is an upload of its own: {seen:?}");
}

/// A refusal that ends a push which came so far.
fn denied() -> Reply {
    Reply::Answer(403, String::new(), r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#)
}

#[test]
fn a_failure_that_passes_is_no_error() {
    let failures = AtomicUsize::new(0);
    let (error, seen) = pushed(move |request| {
        let looks = request.line.starts_with("HEAD");
        match if looks { failures.fetch_add(1, Ordering::Relaxed) } else { 2 } {
            0 => Reply::status(503),
            1 => Reply::Close,
            _ => empty(request, denied()),
        }
    });
    assert!(matches!(&error, Error::Forbidden { message, .. } if message == "read only"), "{error:?}");
    assert_eq!(count(&seen, "HEAD"), 3, "{seen:?}");
    assert_eq!(count(&seen, "PUT"), 1, "a refusal is not tried again: {seen:?}");
}

#[test]
fn a_registry_with_tokens_is_asked_for_one_before_the_last_one_ends_and_gets_it_with_each_request() {
    let fake = Fake::start(|request| match request.line.split_once(' ') {
        // "ada:open".
        Some((_, path)) if path.starts_with("/token?") => match request.authorization.as_str() {
            "Basic YWRhOm9wZW4=" => Reply::Answer(200, String::new(), r#"{"token":"secret"}"#),
            _ => Reply::Answer(401, String::new(), "who is that?"),
        },
        _ if request.authorization == "Bearer secret" => empty(request, denied()),
        _ => {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"test\"", request.host);
            Reply::Answer(401, format!("WWW-Authenticate: {challenge}\r\n"), "")
        }
    });
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "one");
    let to = Reference::new(&format!("{}/one", fake.name()), "v1").unwrap();
    let push = |auth: &str, patience: Patience| {
        let file = dir.path().join("config.json");
        fs::write(&file, format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, fake.name())).unwrap();
        let access = Access { insecure_loopback: true, ..Access::default() };
        let mut registry = Registry::with(&fake.name(), &access, &Files(vec![file]), patience).unwrap();
        registry.push(dir.path(), NAME, std::slice::from_ref(&to), |_| ()).unwrap_err()
    };
    // At the beginning, and before the first blob where the login may have ended meanwhile.
    for (login, logins) in [(patience().login, 1), (Duration::ZERO, 2)] {
        let before = fake.seen().len();
        let error = push("YWRhOm9wZW4=", Patience { login, ..patience() });
        assert!(matches!(&error, Error::Forbidden { message, .. } if message == "read only"), "{error:?}");
        let seen = fake.seen().split_off(before);
        let tokens: Vec<_> = seen.iter().filter(|line| line.contains("/token?")).collect();
        assert_eq!(tokens, vec!["GET /token?scope=repository%3Aone%3Apull%2Cpush&service=test"; logins]);
    }

    let refused = push("YWRhOndyb25n", patience());
    assert!(matches!(&refused, Error::Unauthorized { message, .. } if message == "who is that?"), "{refused:?}");
    assert!(refused.to_string().contains("config.json"), "{refused}");
}

#[test]
fn a_connection_that_breaks_in_a_blob_is_tried_again_and_then_said() {
    let (error, seen) = pushed(|request| empty(request, Reply::Close));
    assert!(matches!(error, Error::Broke { attempts: 3, .. }), "{error:?}");
    assert!(text(&error).contains("what has arrived is not sent again"), "{}", text(&error));
    assert_eq!(count(&seen, "PUT"), 3, "{seen:?}");
}

#[test]
fn a_registry_that_hangs_ends_the_push() {
    let (error, _) = pushed(|_| Reply::Silence);
    assert!(matches!(error, Error::Silent { .. }), "{error:?}");
    // The body may fit into what the kernel takes: it counts that no byte moves, not that one did.
    let (error, seen) = pushed(|request| empty(request, Reply::Silence));
    assert!(matches!(&error, Error::Silent { what, .. } if what.starts_with("take the blob")), "{error:?}");
    assert_eq!(count(&seen, "PUT"), 1, "{seen:?}");
}

#[test]
fn a_name_that_the_registry_refuses_is_shown_with_its_words() {
    let words = r#"{"errors":[{"code":"NAME_INVALID","message":"invalid repository name"}]}"#;
    let (error, _) = pushed(move |request| match request.line.split(' ').next() {
        Some("POST") => Reply::Answer(400, String::new(), words),
        _ => empty(request, Reply::Silence),
    });
    assert!(text(&error).contains("(HTTP status 400): invalid repository name"), "{error}");
    let (error, _) = pushed(|request| match request.line.split(' ').next() {
        Some("POST") => Reply::status(404),
        _ => empty(request, Reply::Silence),
    });
    assert!(text(&error).contains("created before the first push"), "{}", text(&error));
}

#[test]
fn a_digest_that_the_registry_makes_another_of_is_an_error() {
    let other = "Docker-Content-Digest: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\r\n";
    let (error, _) = pushed(move |request| match request.line.split_once(' ') {
        Some(("GET", "/v2/")) => Reply::status(200),
        Some(("PUT", _)) => Reply::Answer(201, "Location: /v2/one/x\r\n".into(), ""),
        Some(("HEAD", path)) if path.contains("/blobs/") => Reply::status(200),
        _ => Reply::Answer(200, other.into(), ""),
    });
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
}

#[test]
fn an_unknown_host_and_one_without_tls_are_told_apart() {
    let nowhere = Files(vec![]);
    let opened = |name: &str| Registry::with(name, &Access::default(), &nowhere, patience()).unwrap();
    let reference = |name: &str| Reference::new(&format!("{name}/one"), "v1").unwrap();
    // A name that never exists (RFC 6761).
    let name = "registry.invalid";
    let unknown = opened(name).check(&reference(name)).unwrap_err();
    assert!(matches!(unknown, Error::UnknownHost { .. } | Error::Silent { .. }), "{unknown:?}");

    let plain = Fake::start(|_| Reply::status(400));
    let error = opened(&plain.name()).check(&reference(&plain.name())).unwrap_err();
    assert!(matches!(error, Error::NotTls { .. }), "{error:?}");
    assert!(text(&error).contains("--insecure-loopback"), "{}", text(&error));
}

#[test]
fn credential_files_are_read_in_their_order_and_named_when_they_are_broken() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let other = file("other", r#"{"auths": {"elsewhere": {"auth": "YTpi"}}}"#);
    // As docker keeps them when a helper has the rest.
    let mine =
        file("mine", r#"{"auths": {"https://r.io/v1/": {"auth": "YWRhOm9wZW4="}}, "credHelpers": {"x.io": "x"}}"#);
    let login = Files(vec![dir.path().join("none"), other.clone(), mine]).login("r.io").unwrap();
    assert!(login.origin.to_string().starts_with("user \"ada\", from "), "{}", login.origin);
    let nobody = Files(vec![other.clone()]).login("r.io").unwrap();
    assert!(nobody.origin.to_string().ends_with(&other.display().to_string()), "{}", nobody.origin);

    let token = r#"{"auths": {"r.io": {"identitytoken": "x"}}}"#;
    let helper = r#"{"credHelpers": {"r.io": "no-such-helper"}}"#;
    for (text_of_file, expected) in [
        ("{", "cannot read the credential file"),
        (r#"{"auths": {"r.io": {"auth": "!"}}}"#, "its entry for r.io: Unable to decode credential"),
        (token, "has an identity token for r.io"),
        (helper, "the credential helper docker-credential-no-such-helper, which"),
    ] {
        let path = file("broken", text_of_file);
        let error = Files(vec![path.clone()]).login("r.io").err().unwrap();
        assert!(text(&error).contains(expected), "{}", text(&error));
        assert!(text(&error).contains(&path.display().to_string()), "{}", text(&error));
    }
}
