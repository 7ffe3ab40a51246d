//! Version 4A: ECDSA over P-256, under a key pair that both sides derive from the secret.
//!
//! The derivation is NIST SP 800-108's counter KDF over HMAC-SHA256, drawn again until the number fits the curve (AWS
//! General Reference, "Signature Version 4A"). The verifier needs the public half alone: derived once, then kept. What is
//! put in another name (`resign.rs`) needs both.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, ParsedPublicKey,
};
use zeroize::Zeroizing;

use super::claim::Algorithm;
use crate::engine::facts::Secret;
use crate::engine::hex;

/// The order of P-256's group, less two: a drawn number above it is drawn again.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];
/// Hex of the longest signature: ASN.1 of two numbers of 33 bytes.
pub const MAX_SIGNATURE: usize = 144;
/// The chance that none of so many signatures has 140 digits or fewer is one in 2^106.
const DRAWS: usize = 256;

/// The public half of an access key's pair.
pub struct PublicKey(ParsedPublicKey);

impl PublicKey {
    /// `None` for an id or a secret that gives no pair: with any real one that has a probability of 2^-32 a draw.
    pub fn derive(key_id: &str, secret: &Secret) -> Option<Self> {
        let (_, public) = pair(key_id, secret)?;
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public.as_ref()).ok().map(Self)
    }

    /// `signature`: lower-case hex of ASN.1.
    pub fn holds(&self, text: &[u8], signature: &str) -> bool {
        signature.len() <= MAX_SIGNATURE
            && hex::parse_any(signature.as_bytes()).is_some_and(|der| self.0.verify_sig(text, &der).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P-256")
    }
}

/// An access key's pair, for signing.
pub struct KeyPair(EcdsaKeyPair);

impl KeyPair {
    /// As [`PublicKey::derive`].
    pub fn derive(key_id: &str, secret: &Secret) -> Option<Self> {
        let (scalar, public) = pair(key_id, secret)?;
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &*scalar, public.as_ref()).ok().map(Self)
    }

    /// Lower-case hex of ASN.1, `most` digits at the most. One in four signatures has 140, three in four have 142 or
    /// fewer, and [`MAX_SIGNATURE`] is always enough; each is random, so a shorter one is drawn for.
    pub fn sign(&self, text: &[u8], most: usize) -> Option<String> {
        let random = SystemRandom::new();
        (0..DRAWS)
            .map_while(|_| self.0.sign(&random, text).ok())
            .find(|signature| signature.as_ref().len() * 2 <= most)
            .map(|signature| hex::text(signature.as_ref()))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Private scalar and public point.
fn pair(key_id: &str, secret: &Secret) -> Option<(Zeroizing<[u8; 32]>, impl AsRef<[u8]>)> {
    let mut label = Zeroizing::new(Vec::with_capacity(5 + secret.expose().len()));
    label.extend_from_slice(b"AWS4A");
    label.extend_from_slice(secret.expose());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &label);
    let scalar = (1..=254u8).find_map(|counter| draw(&key, key_id, counter))?;
    let private = PrivateKey::from_private_key(&ECDH_P256, &*scalar).ok()?;
    let public = private.compute_public_key().ok()?;
    Some((scalar, public))
}

/// One draw, plus one; `None` where it doesn't fit.
fn draw(key: &hmac::Key, key_id: &str, counter: u8) -> Option<Zeroizing<[u8; 32]>> {
    let mut context = hmac::Context::with_key(key);
    // One block of 256 bits: block number, label, a zero byte, id and counter, length in bits.
    context.update(&1u32.to_be_bytes());
    context.update(Algorithm::Ecdsa.as_str().as_bytes());
    context.update(&[0]);
    context.update(key_id.as_bytes());
    context.update(&[counter]);
    context.update(&256u32.to_be_bytes());
    let mut number = Zeroizing::new([0; 32]);
    number.copy_from_slice(context.sign().as_ref());
    next(&mut number).then_some(number)
}

/// Adds one to a number that leaves it below the group's order; `false` where it doesn't. Whether it does tells
/// nothing: the numbers themselves are compared without a branch on their bytes.
fn next(number: &mut [u8; 32]) -> bool {
    let (mut above, mut below) = (0u8, 0u8);
    for (a, b) in number.iter().zip(ORDER_LESS_TWO) {
        let undecided = !(above | below) & 1;
        above |= u8::from(*a > b) & undecided;
        below |= u8::from(*a < b) & undecided;
    }
    let mut carry = 1u16;
    for byte in number.iter_mut().rev() {
        carry += u16::from(*byte);
        *byte = carry as u8;
        carry >>= 8;
    }
    above == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_up_to_the_order_less_two() {
        let number = |last: [u8; 2]| {
            let mut number = ORDER_LESS_TWO;
            number[30..].copy_from_slice(&last);
            number
        };
        let mut most = number([0x25, 0x4f]);
        assert!(next(&mut most));
        assert_eq!(most, number([0x25, 0x50]));
        assert!(!next(&mut most));
        assert!(!next(&mut [0xff; 32]));
        let mut carried = [0; 32];
        carried[31] = 0xff;
        assert!(next(&mut carried));
        assert_eq!(carried[30..], [1, 0]);
    }

    #[test]
    fn a_signature_is_lower_case_hex_of_asn_1_and_no_longer_than_one_can_be() {
        let key = PublicKey::derive("AKIDEXAMPLE", &Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
            .unwrap();
        for signature in ["", "30", "3006020100020100", "zz", &"30".repeat(72), &"30".repeat(10_000)] {
            assert!(!key.holds(b"text", signature), "{signature}");
        }
    }

    #[test]
    fn a_pair_signs_what_its_public_half_takes_in_the_room_that_there_is() {
        let secret = Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let (pair, key) = (
            KeyPair::derive("AKIDEXAMPLE", &secret).unwrap(),
            PublicKey::derive("AKIDEXAMPLE", &secret).unwrap(),
        );
        for most in [MAX_SIGNATURE, 142, 140] {
            let signature = pair.sign(b"text", most).unwrap();
            assert!(signature.len() <= most, "{signature}");
            assert!(key.holds(b"text", &signature) && !key.holds(b"texT", &signature), "{signature}");
        }
        assert_eq!(pair.sign(b"text", 64), None);
        let other = PublicKey::derive("AKIDEXAMPL2", &secret).unwrap();
        assert!(!other.holds(b"text", &pair.sign(b"text", MAX_SIGNATURE).unwrap()));
        assert_eq!(format!("{pair:?}"), "[redacted]");
    }
}
