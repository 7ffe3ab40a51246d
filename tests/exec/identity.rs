//! Whose calls pass: keys that are known, keys of our accounts, and nobody else's.

use crate::support::sign::{KEY_ID, SECRET};
use crate::{POLICY, Run, World, curl, run};

/// A key of account 123456789012 that STS could have made, and one of another account.
const LATER_KEY: &str = "ASIARZPUZDIKAAAAAAAA";
const FOREIGN_KEY: &str = "ASIAY34FZKBOKMUTVV7A";
const EMPTY: &str = "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

async fn get(world: &World, key: &str, variables: &[(&str, &str)], flags: &[&str]) -> Run {
    let user = format!("{key}:{SECRET}");
    let url = "https://ours.s3.us-east-1.amazonaws.com/file";
    let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &user, "-H", EMPTY, url];
    run(world.exec().envs(variables.iter().copied()).args(flags), &curl(&signed)).await
}

fn profile(world: &World, config: &str) {
    std::fs::create_dir_all(world.home.join(".aws")).unwrap();
    std::fs::write(world.home.join(".aws/config"), config).unwrap();
}

#[tokio::test]
async fn a_key_of_the_environment_is_verified() {
    let world = World::new().await;
    let keys = [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let seen = get(&world, KEY_ID, &keys, &["--audit", "audit.jsonl"]).await;
    assert_eq!(seen.out, "ok 200", "{seen:?}");
    assert!(seen.said.contains("your account 123456789012; 1 key is known"), "{seen:?}");
    assert!(seen.said.contains("ALLOW      1  s3:GetObject"), "{seen:?}");
    let audit = std::fs::read_to_string(world.home.join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"signature\":\"verified\""), "{audit}");
    // The same key with another secret is nobody's.
    let wrong = [keys[0], ("AWS_SECRET_ACCESS_KEY", "another")];
    let refused = get(&world, KEY_ID, &wrong, &[]).await;
    assert!(refused.out.contains("[sigv4.signature]") && refused.out.ends_with(" 403"), "{refused:?}");
    assert_eq!(world.origin.requests().len(), 1);
}

#[tokio::test]
async fn keys_made_later_pass_by_the_account_that_the_profile_tells() {
    let world = World::new().await;
    for config in [
        "[default]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = dev\n",
        "[default]\nlogin_session = arn:aws:sts::123456789012:assumed-role/Admin/me\n",
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/dev\nsource_profile = base\n[profile base]\nsso_account_id = 999999999999\n",
        "[default]\nrole_arn = arn:aws:iam::999999999999:role/dev\nsource_profile = base\n[profile base]\nsso_account_id = 123456789012\n",
    ] {
        profile(&world, config);
        let seen = get(&world, LATER_KEY, &[], &["--audit", "audit.jsonl"]).await;
        assert_eq!(seen.out, "ok 200", "{config}: {seen:?}");
        let refused = get(&world, FOREIGN_KEY, &[], &[]).await;
        assert!(refused.out.contains("[sigv4.unknown_key]") && refused.out.ends_with(" 403"), "{refused:?}");
        assert!(refused.out.contains("the key is of account 609629065308"), "{refused:?}");
        assert!(refused.out.contains("123456789012"), "{refused:?}");
    }
    let audit = std::fs::read_to_string(world.home.join("audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"signature\":\"unknown_key\"").count(), 4, "{audit}");
    // A web identity: the role's account, before STS was asked.
    profile(&world, "");
    let role =
        [("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")];
    assert_eq!(get(&world, LATER_KEY, &role, &[]).await.out, "ok 200");
    assert_eq!(get(&world, LATER_KEY, &[], &["--account", "123456789012"]).await.out, "ok 200");
    // And nobody's word for it.
    let refused = get(&world, LATER_KEY, &[], &[]).await;
    assert!(
        refused.out.ends_with(" 403") && refused.said.contains("no account is known as yours"),
        "{refused:?}"
    );
    assert_eq!(world.origin.requests().len(), 6);
}

#[tokio::test]
async fn a_container_endpoint_is_asked_directly_and_its_key_verified() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/creds", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let n = socket.read(&mut request).await.unwrap();
            assert!(String::from_utf8_lossy(&request[..n]).contains("Authorization: hush"));
            let body = format!(
                r#"{{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"{SECRET}","Token":"t","RoleArn":"arn:aws:iam::123456789012:role/app","Expiration":"2030-01-01T00:00:00Z"}}"#
            );
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let variables =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*endpoint), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush")];
    let seen = run(world.exec().envs(variables), &["sh", "-c", "echo $NO_PROXY"]).await;
    assert!(seen.said.contains("your account 123456789012; 1 key is known"), "{seen:?}");
    assert!(seen.out.contains("127.0.0.1"), "{seen:?}");
    // A key of the role's account whose secret nobody told us: by its account.
    assert_eq!(get(&world, LATER_KEY, &variables, &[]).await.out, "ok 200");
}

#[tokio::test]
async fn a_written_policy_is_not_widened_by_exec() {
    let world = World::new().await;
    assert!(!POLICY.contains("unknown_key"));
    profile(&world, "[default]\nsso_account_id = 123456789012\n");
    let refused = get(&world, LATER_KEY, &[], &["--policy", "policy.yaml"]).await;
    assert!(refused.out.ends_with(" 403"), "{refused:?}");
    assert!(refused.out.contains("nearest is `ours` (policy.yaml:4:5)"), "{refused:?}");
    assert!(refused.out.contains("signature: unknown_key, signer.account: self"), "{refused:?}");
    assert_eq!(world.origin.connections(), 0);
}
