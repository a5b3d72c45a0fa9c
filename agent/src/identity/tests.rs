use std::time::Duration;

use rcgen::{BasicConstraints, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("makes a key")).expect("makes a certificate")
}

/// A certificate for this key that is good from 2020 on, for so many days.
fn granted(key: &KeyPair, issuer: &Authority, days: u64) -> Granted {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1) + Duration::from_hours(24 * days);
    let leaf = params.signed_by(key, issuer).expect("makes a certificate");
    Granted { chain: vec![leaf.der().to_vec()], roots: vec![issuer.der().to_vec()] }
}

fn joined(key: &KeyPair, issuer: &Authority) -> Identity {
    Identity::new(StoredKey(SecretString::from(key.serialize_pem())), &granted(key, issuer, 10)).expect("can be used")
}

#[test]
fn the_next_certificate_is_for_the_same_key_and_ends_later() {
    let (key, root) = (KeyPair::generate().expect("makes a key"), authority());

    let next = joined(&key, &root).next(&granted(&key, &root, 11)).expect("can be used");

    assert_eq!(next.not_after().to_string(), "2020-01-12T00:00:00Z");
}

#[test]
fn what_cannot_be_used_does_not_take_the_place_of_what_can() {
    let (key, other, root) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"), authority());
    let identity = joined(&key, &root);
    let orphan = Granted { roots: vec![authority().der().to_vec()], ..granted(&key, &root, 11) };

    let refusals = [
        (granted(&other, &root, 11), "the certificate"),
        (orphan, "the chain"),
        (granted(&key, &root, 10), "it ends at"),
        (Granted { chain: Vec::new(), ..granted(&key, &root, 11) }, "the certificate"),
        (Granted { roots: Vec::new(), ..granted(&key, &root, 11) }, "no root"),
    ];

    for (granted, problem) in refusals {
        let refused = identity.next(&granted).err().expect(problem);
        assert!(refused.contains(problem), "{problem}: {refused}");
    }
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life_or_a_little_later() {
    let (key, root) = (KeyPair::generate().expect("makes a key"), authority());

    let live = joined(&key, &root).live();

    assert_eq!(live.renew_at(0.0).to_string(), "2020-01-06T00:00:00Z");
    assert_eq!(live.renew_at(0.5).to_string(), "2020-01-06T12:00:00Z");
}
