use std::collections::HashMap;

use super::*;

const NEW_ID: &str = "AKIARZPUZDIKAAAAAAAA";
const OLD_ID: &str = "AKIAIOSFODNN7EXAMPLE";

fn gather(
    explicit: Option<&str>,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<KnownKeys, KeysError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let files: HashMap<_, _> = files.iter().copied().collect();
    load(
        explicit.map(Path::new),
        None,
        &|name| variables.get(name).map(|value| (*value).to_owned()),
        &|path| match path.to_str().and_then(|path| files.get(path)) {
            Some(&"unreadable") => Err(io::ErrorKind::PermissionDenied.into()),
            Some(text) => Ok((*text).to_owned()),
            None => Err(io::ErrorKind::NotFound.into()),
        },
    )
}

fn ids(keys: &KnownKeys) -> Vec<&str> {
    keys.iter().map(|key| &*key.id).collect()
}

fn section(name: &str, id: &str) -> String {
    format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = s/e+c=\n")
}

fn account(digits: &str) -> Option<AccountId> {
    AccountId::parse(digits)
}

#[test]
fn no_source_at_all_gives_no_key() {
    assert!(gather(None, &[], &[]).unwrap().is_empty());
    assert!(gather(None, &[("HOME", "/h"), ("AWS_PROFILE", "gone")], &[]).unwrap().is_empty());
    assert!(gather(Some("/f"), &[], &[("/f", "")]).unwrap().is_empty());
}

#[test]
fn takes_the_environment_whole_and_refuses_half_of_it() {
    let whole = [("AWS_ACCESS_KEY_ID", NEW_ID), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    let keys = gather(None, &whole, &[]).unwrap();
    let key = keys.get(NEW_ID).unwrap();
    assert_eq!((key.secret.expose(), key.account), (&b"s"[..], account("123456789012")));
    assert_eq!(key.token.as_ref().unwrap().expose(), b"t");
    assert!(key.own);

    for half in [&whole[..1], &whole[1..]] {
        assert!(matches!(gather(None, half, &[]), Err(KeysError::HalfSet { .. })));
    }
    let empty_token = [whole[0], whole[1], ("AWS_SESSION_TOKEN", "")];
    assert!(gather(None, &empty_token, &[]).unwrap().get(NEW_ID).unwrap().token.is_none());
}

#[test]
fn a_named_file_gives_every_profile_and_silences_all_other_sources() {
    let file = format!("{}# comment\n{}", section("default", NEW_ID), section("profile b", "ID2"));
    let variables = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("HOME", "/h")];
    let home = section("default", "HOME");
    let keys = gather(Some("/f"), &variables, &[("/f", &file), ("/h/.aws/credentials", &home)]).unwrap();
    assert_eq!(ids(&keys), [NEW_ID, "ID2"]);
    assert_eq!(keys.get("ID2").unwrap().secret.expose(), b"s/e+c=");
}

#[test]
fn takes_only_the_profile_that_the_workload_would_select() {
    let credentials = format!("{}{}", section("default", "D"), section("work", "W"));
    let files = [("/h/.aws/credentials", credentials.as_str())];
    assert_eq!(ids(&gather(None, &[("HOME", "/h")], &files).unwrap()), ["D"]);
    assert_eq!(ids(&gather(None, &[("HOME", "/h"), ("AWS_PROFILE", "work")], &files).unwrap()), ["W"]);
    assert!(gather(None, &[("HOME", "/h"), ("AWS_PROFILE", "wor")], &files).unwrap().is_empty());

    let elsewhere = [("AWS_SHARED_CREDENTIALS_FILE", "~/c"), ("HOME", "/h")];
    assert_eq!(ids(&gather(None, &elsewhere, &[("/h/c", &credentials)]).unwrap()), ["D"]);
    assert!(gather(None, &elsewhere, &files).unwrap().is_empty());
}

#[test]
fn the_credentials_file_comes_before_the_config_file_and_only_its_own_sections_count() {
    let config = format!("{}{}", section("profile work", "C"), section("work", "WRONG"));
    let variables = [("HOME", "/h"), ("AWS_PROFILE", "work")];
    let files = [("/h/.aws/config", config.as_str())];
    assert_eq!(ids(&gather(None, &variables, &files).unwrap()), ["C"]);
    let credentials = section("work", "W");
    let files = [files[0], ("/h/.aws/credentials", &credentials)];
    assert_eq!(ids(&gather(None, &variables, &files).unwrap()), ["W"]);
}

#[test]
fn follows_source_profiles_and_survives_a_circle() {
    let config = "[profile a]\nrole_arn = arn:aws:iam::999999999999:role/r\nsource_profile = b\n\
                  [profile b]\nsource_profile=a\naws_access_key_id=B\naws_secret_access_key=s\n";
    let keys = gather(None, &[("HOME", "/h"), ("AWS_PROFILE", "a")], &[("/h/.aws/config", config)]).unwrap();
    assert_eq!(ids(&keys), ["B"]);
    assert_eq!(keys.get("B").unwrap().account, None);
}

#[test]
fn the_account_comes_from_the_key_id_then_from_what_the_profile_says() {
    let with = |id: &str, note: &str| {
        let file = format!("{}{note}\n", section("p", id));
        let keys = gather(Some("/f"), &[], &[("/f", &file)]).unwrap();
        let key = keys.get(id).unwrap();
        (key.account, key.role.as_deref().map(str::to_owned))
    };
    let role = "role_arn = arn:aws:iam::210987654321:role/team/deploy";
    assert_eq!(with(OLD_ID, "").0, None);
    assert_eq!(with(OLD_ID, role), (account("210987654321"), Some("deploy".into())));
    assert_eq!(with(OLD_ID, "sso_account_id = 210987654321").0, account("210987654321"));
    assert_eq!(with(NEW_ID, role).0, account("123456789012"));
    // The key may assume that role; it isn't the role's.
    for assumes in ["source_profile = p", "credential_source = Environment"] {
        assert_eq!(with(OLD_ID, &format!("{role}\n{assumes}")), (None, None));
    }
    for odd in ["role_arn = arn:aws:iam::21098765432:role/x", "role_arn = x", "sso_account_id = 1"] {
        assert_eq!(with(OLD_ID, odd).0, None, "{odd}");
    }
}

#[test]
fn errors_name_file_and_line_and_no_secret() {
    for (text, line) in [
        ("[a]\naws_access_key_id = X\n", 1),
        ("\n[a]\naws_secret_access_key = hush\n", 2),
        ("hush = 1\n", 1),
        ("[a]\nhush\n", 2),
        ("[a\n", 1),
    ] {
        let error = gather(Some("/f"), &[], &[("/f", text)]).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(&format!("/f:{line}: ")), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    assert!(matches!(gather(Some("/f"), &[], &[]), Err(KeysError::Read { .. })));
}

#[test]
fn a_file_named_by_variable_must_be_readable_and_a_closed_home_is_nobodys() {
    let files = [("/c", "unreadable"), ("/h/.aws/credentials", "unreadable")];
    let named = [("AWS_SHARED_CREDENTIALS_FILE", "/c")];
    assert!(matches!(gather(None, &named, &files), Err(KeysError::Read { .. })));
    assert!(gather(None, &[("HOME", "/h")], &files).unwrap().is_empty());
}

#[test]
fn reads_comments_nested_settings_and_repeats_as_sdks_do() {
    let file = "\u{feff}; note\n[p]  # note\nAWS_ACCESS_KEY_ID=ID\t# note\ns3 =\n  aws_access_key_id = NESTED\n\
                aws_secret_access_key = a#b;c\n\n[q]\n[p]\n  aws_session_token = one\n  aws_session_token = two\n";
    let keys = gather(Some("/f"), &[], &[("/f", file)]).unwrap();
    let key = keys.get("ID").unwrap();
    assert_eq!(key.secret.expose(), b"a#b;c");
    assert_eq!(key.token.as_ref().unwrap().expose(), b"two");
    assert_eq!(keys.len(), 1);
}

#[test]
fn the_accounts_of_keys_made_later_are_ours_before_they_are_made() {
    let mine = |variables: &[(&str, &str)], config: &str| {
        let variables: Vec<_> = [("HOME", "/h")].into_iter().chain(variables.iter().copied()).collect();
        let keys = gather(None, &variables, &[("/h/.aws/config", config)]).unwrap();
        keys.own_accounts().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let sso = "[default]\nsso_session = s\nsso_account_id = 111111111111\nsso_role_name = dev\n";
    assert_eq!(mine(&[], sso), ["111111111111"]);
    let login = "[default]\nlogin_session = arn:aws:sts::222222222222:assumed-role/Admin/me\n";
    assert_eq!(mine(&[], login), ["222222222222"]);
    let chain = "[profile a]\nrole_arn = arn:aws:iam::333333333333:role/r\nsource_profile = b\n\
                 [profile b]\nsso_account_id = 111111111111\n[profile c]\nsso_account_id = 999999999999\n";
    assert_eq!(mine(&[("AWS_PROFILE", "a")], chain), ["111111111111", "333333333333"]);
    assert_eq!(mine(&[("AWS_PROFILE", "b")], chain), ["111111111111"]);
    assert!(mine(&[], chain).is_empty(), "no other profile is ours");
    let role =
        [("AWS_ROLE_ARN", "arn:aws:iam::444444444444:role/pod"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")];
    assert_eq!(mine(&role, ""), ["444444444444"]);
    assert!(mine(&role[..1], "").is_empty(), "a role alone is nobody's");
    for odd in
        ["role_arn = arn:aws:iam::33:role/r", "role_arn = arn:aws:iam::333333333333", "sso_account_id = x"]
    {
        assert!(mine(&[], &format!("[default]\n{odd}\n")).is_empty(), "{odd}");
    }
}

#[test]
fn what_the_cli_got_from_sso_is_verified() {
    let config = "[default]\nsso_session = corp\nsso_account_id = 222222222222\nsso_role_name = dev\n";
    // sha1('{"accountId":"222222222222","roleName":"dev","sessionName":"corp"}'), as botocore names the file.
    let path = "/h/.aws/cli/cache/bf573f659d651096ce318bb16271cb5394f59022.json";
    let cached = r#"{"ProviderType":"sso","Credentials":{"AccessKeyId":"ASIASSO","SecretAccessKey":"s","SessionToken":"t","Expiration":"2030-01-01T00:00:00Z"}}"#;
    let files = [("/h/.aws/config", config), (path, cached)];
    let keys = gather(None, &[("HOME", "/h")], &files).unwrap();
    let key = keys.get("ASIASSO").unwrap();
    assert_eq!((key.account, key.role.as_deref()), (account("222222222222"), Some("dev")));
    // Another role's file is not this profile's.
    let other = config.replace("dev", "admin");
    let files = [("/h/.aws/config", other.as_str()), (path, cached)];
    assert!(gather(None, &[("HOME", "/h")], &files).unwrap().is_empty());
}

#[test]
fn a_login_session_gives_its_cached_key() {
    let config = "[default]\nlogin_session = arn:aws:iam::222222222222:user/me\n";
    // SHA-256 of the session's name, as the AWS CLI names the file.
    let name = "/h/.aws/login/cache/HASH.json";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"arn:aws:iam::222222222222:user/me");
    let hash = crate::engine::hex::text(digest.as_ref());
    let path = name.replace("HASH", &hash);
    let cached = r#"{"accessToken":{"accessKeyId":"ASIAOLD","secretAccessKey":"s","sessionToken":"t","accountId":"222222222222","expiresAt":"2030-01-01T00:00:00Z"},"tokenType":"urn:x"}"#;
    let files = [("/h/.aws/config", config), (path.as_str(), cached)];
    let keys = gather(None, &[("HOME", "/h")], &files).unwrap();
    assert_eq!(keys.get("ASIAOLD").unwrap().account, account("222222222222"));
    let files = [files[0], (path.as_str(), "{")];
    let keys = gather(None, &[("HOME", "/h")], &files).unwrap();
    assert!(keys.is_empty());
    assert_eq!(keys.own_accounts(), [account("222222222222").unwrap()]);
}
