//! Rules of version 4A, signed here; AWS's own signatures are in `suite.rs`.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use aws_lc_rs::{digest, hmac};
use exeat::engine::facts::{Auth, PayloadOutcome, PayloadState};
use exeat::engine::reason::Reason;
use exeat::engine::signature::{
    Algorithm, Parts, PathForm, Query, Refusal, Scope, SignedFields, string_to_sign,
};

use super::message::{Message, hex, signed};
use super::rules::{keys_of, message, reading, reason};
use super::signer::Signer;

const DATE: &str = "20260102T030405Z";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The key pair of the signer's secret; its first draw fits.
fn pair(signer: &Signer) -> EcdsaKeyPair {
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4A{}", signer.secret).as_bytes());
    let label =
        [&b"\0\0\0\x01AWS4-ECDSA-P256-SHA256\0"[..], signer.id.as_bytes(), b"\x01\0\0\x01\0"].concat();
    let mut scalar = hmac::sign(&key, &label).as_ref().to_vec();
    for byte in scalar.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    let public = PrivateKey::from_private_key(&ECDH_P256, &scalar).unwrap().compute_public_key().unwrap();
    let alg = &ECDSA_P256_SHA256_ASN1_SIGNING;
    EcdsaKeyPair::from_private_key_and_public_key(alg, &scalar, public.as_ref()).unwrap()
}

fn ecdsa(signer: &Signer, text: &[u8]) -> String {
    hex(pair(signer).sign(&SystemRandom::new(), text).unwrap().as_ref())
}

/// Signs every field of the message in the header form; `payload` is its last line.
fn sign(signer: &Signer, mut message: Message, regions: &str, payload: &str) -> Message {
    message.set("x-amz-date", DATE);
    message.set("x-amz-region-set", regions);
    if signer.service == "s3" {
        message.set("x-amz-content-sha256", payload);
    }
    let mut names: Vec<String> = message.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    let names = names.join(";");
    let scope = Scope { date: "20260102", region: regions, service: signer.service };
    let fields = message.fields.iter().map(|(name, value)| (name.as_bytes(), &**value));
    let fields = SignedFields::gather(names.clone().into(), fields, |_, _| Ok(())).unwrap();
    let query = Query::parse(message.query(), &[]).unwrap();
    let parts = Parts { method: &message.method, path: message.path(), query, fields };
    let canonical = parts.text(PathForm::AsSent, payload.as_bytes());
    let signature = ecdsa(signer, &string_to_sign(Algorithm::Ecdsa, DATE, &scope, &canonical));
    let value = format!(
        "AWS4-ECDSA-P256-SHA256 Credential={}/20260102/{}/aws4_request, SignedHeaders={names}, Signature={signature}",
        signer.id, signer.service
    );
    message.set("authorization", &value);
    message
}

fn verify(signer: &Signer, message: &Message) -> Result<(), Refusal> {
    message.verify(&keys_of(signer), signer.at).map(drop)
}

#[test]
fn a_region_set_is_signed_well_formed_and_named_once() {
    let signer = Signer::default();
    for regions in ["us-east-1", "*", "us-east-1,us-west-2", "us-*, eu-west-1"] {
        let good = sign(&signer, message("GET", "/", &[]), regions, EMPTY);
        verify(&signer, &good).unwrap_or_else(|e| panic!("{regions}: {e:?}"));
        assert_eq!(reading(&good), Ok(Auth::SigV4a));
        let head = good.head().unwrap();
        let claim = signed(&head).unwrap();
        assert_eq!(
            claim.regions().collect::<Vec<_>>(),
            regions.split(',').map(str::trim).collect::<Vec<_>>()
        );

        let mut other = good.clone();
        other.set("x-amz-region-set", "eu-central-1");
        assert_eq!(reason(verify(&signer, &other)), Reason::SigV4Signature);
        let mut twice = good.clone();
        twice.fields.push(("X-Amz-Region-Set".into(), regions.into()));
        assert_eq!(reading(&twice), Err(Reason::SigV4Malformed));
    }
    for regions in ["", ",", "us-east-1,", "us east", "us-east-1;eu", "us%2Dx", "us-east-1%2Cus-west-2"] {
        let bad = sign(&signer, message("GET", "/", &[]), regions, EMPTY);
        assert_eq!(reading(&bad), Err(Reason::SigV4Scope), "{regions:?}");
    }
    let good = sign(&signer, message("GET", "/", &[]), "*", EMPTY);
    let mut without = good.clone();
    without.remove("x-amz-region-set");
    assert_eq!(reading(&without), Err(Reason::SigV4Scope));
    let mut unsigned = good.clone();
    let value = good.value("authorization").unwrap().replace(";x-amz-region-set", "");
    unsigned.set("authorization", &value);
    assert_eq!(reading(&unsigned), Err(Reason::SigV4UnsignedHeader));
}

#[test]
fn a_pair_of_another_secret_or_id_does_not_verify_and_neither_does_another_algorithms_name() {
    let signer = Signer::default();
    let good = sign(&signer, message("GET", "/", &[]), "*", EMPTY);
    for other in [Signer { secret: "other", ..signer.clone() }, Signer { id: "AKIDOTHER", ..signer.clone() }]
    {
        let mut forged = sign(&other, message("GET", "/", &[]), "*", EMPTY);
        let value = forged.value("authorization").unwrap().replace(other.id, signer.id);
        forged.set("authorization", &value);
        assert_eq!(reason(verify(&signer, &forged)), Reason::SigV4Signature);
    }
    let value = good.value("authorization").unwrap();
    for (changed, expected) in [
        (value.replace("ECDSA-P256", "HMAC"), Reason::SigV4Scope),
        (
            value.replace("ECDSA-P256", "HMAC").replace("/20260102/", "/20260102/us-east-1/"),
            Reason::SigV4Malformed,
        ),
        (value.replace("/20260102/", "/20260102/us-east-1/"), Reason::SigV4Scope),
        (value.to_owned() + "0g", Reason::SigV4Malformed),
        (value.to_owned() + &"00".repeat(40), Reason::SigV4Malformed),
    ] {
        let mut other = good.clone();
        other.set("authorization", &changed);
        assert_eq!(reading(&other), Err(expected), "{changed}");
    }
}

#[test]
fn the_query_form_needs_its_region_set_and_version_4_has_none() {
    let suite = super::message::text("v4a/get-vanilla/query-signed-request.txt");
    let good = Message::parse(&suite);
    assert_eq!(reading(&good), Ok(Auth::Presigned));
    let target = String::from_utf8(good.target.clone()).unwrap();
    for (changed, expected) in [
        (target.replace("&X-Amz-Region-Set=us-east-1", ""), Reason::SigV4Scope),
        (target.replace("Region-Set=us-east-1", "Region-Set=us%2Deast-1"), Reason::SigV4Scope),
        (target.clone() + "&X-Amz-Region-Set=*", Reason::SigV4Malformed),
        (target.replace("Region-Set", "Region-set"), Reason::SigV4Malformed),
    ] {
        assert_eq!(reading(&Message { target: changed.into(), ..good.clone() }), Err(expected));
    }
    let hmac = Message::parse(&super::message::text("v4/get-vanilla/query-signed-request.txt"));
    let mut with_set = hmac.clone();
    with_set.target.extend(b"&X-Amz-Region-Set=*");
    assert_eq!((reading(&hmac), reading(&with_set)), (Ok(Auth::Presigned), Err(Reason::SigV4Malformed)));
}

/// Chunks of version 4A, signatures padded as its signers pad them.
fn chunks(signer: &Signer, seed: &str, data: &[&[u8]], trailer: Option<&str>) -> Vec<u8> {
    let scope = format!("20260102/{}/aws4_request", signer.service);
    let sha256 = |data: &[u8]| hex(digest::digest(&digest::SHA256, data).as_ref());
    let mut previous = seed.to_owned();
    let mut wire = Vec::new();
    for chunk in data.iter().chain([&&b""[..]]) {
        let text = format!(
            "AWS4-ECDSA-P256-SHA256-PAYLOAD\n{DATE}\n{scope}\n{previous}\n{EMPTY}\n{}",
            sha256(chunk)
        );
        previous = ecdsa(signer, text.as_bytes());
        wire.extend(format!("{:x};chunk-signature={previous:*<144}\r\n", chunk.len()).bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(if chunk.is_empty() { b"" } else { b"\r\n" });
    }
    if let Some(line) = trailer {
        let digest = sha256(format!("{line}\n").as_bytes());
        let text = format!("AWS4-ECDSA-P256-SHA256-TRAILER\n{DATE}\n{scope}\n{previous}\n{digest}");
        let signature = ecdsa(signer, text.as_bytes());
        wire.extend(format!("{line}\r\nx-amz-trailer-signature:{signature:*<144}\r\n").bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

#[test]
fn chunks_and_trailers_are_checked_with_their_padding_taken_off() {
    let signer = Signer::s3();
    for trailer in [None, Some("x-amz-checksum-crc32:NhCmhg==")] {
        let mut word = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD".to_owned();
        let mut head =
            message("PUT", "/k", &[("content-length", "9"), ("x-amz-decoded-content-length", "5")]);
        if trailer.is_some() {
            word += "-TRAILER";
            head.set("x-amz-trailer", "x-amz-checksum-crc32");
        }
        let head = sign(&signer, head, "*", &word);
        let seed = head.value("authorization").unwrap().rsplit_once('=').unwrap().1.to_owned();
        let verdict = head.verify(&keys_of(&signer), signer.at).unwrap();
        assert_eq!(verdict.identity.payload, PayloadState::Signed);
        // A signature's length varies; one in four needs no padding.
        let mut made = std::iter::repeat_with(|| chunks(&signer, &seed, &[b"he", b"llo"], trailer));
        let wire = made.find(|wire| wire.windows(3).any(|w| w == b"*\r\n")).unwrap();
        for at in 0..=wire.len() {
            let mut check = verdict.due.start();
            check.update(&wire[..at]).unwrap();
            check.update(&wire[at..]).unwrap();
            assert_eq!(check.finish().unwrap(), PayloadOutcome::Matched, "{at}");
        }
        let forge = |from: &str, to: &str| {
            let text = String::from_utf8(wire.clone()).unwrap();
            assert!(text.contains(from), "{from}");
            let mut check = verdict.due.start();
            check.update(text.replacen(from, to, 1).as_bytes()).and_then(|_| check.finish())
        };
        for (from, to) in [("he\r", "hf\r"), ("llo", "llO"), ("=30", "=31"), ("=", "=0"), ("=", "=*")] {
            assert_eq!(forge(from, to).unwrap_err().reason, Reason::SigV4Payload, "{from} {to}");
        }
        forge("*\r\n", "\r\n").expect("less padding is none of the signature");
    }
    // Each algorithm has its own words.
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let fields = [("content-length", "9"), ("x-amz-decoded-content-length", "5")];
    assert_eq!(
        reading(&sign(&signer, message("PUT", "/k", &fields), "*", word)),
        Err(Reason::SigV4Malformed)
    );
}
