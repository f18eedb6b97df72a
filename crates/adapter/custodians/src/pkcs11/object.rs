//! Objects of a token: templates of new keys, and what is read from those that are there.

use std::collections::BTreeSet;

use aws_lc_rs::rand;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use heirloom_participant::custodian::key::{
    KeyHandle, KeyId, KeyRequest, KeyScheme, KeyUsage, Label, Operation, PublicKeyDer,
};
use heirloom_participant::custodian::{CustodianError, KEYS_MAX, spki};
use zeroize::Zeroize as _;

use crate::half::PrivateHalf;
use crate::pkcs11::rsa;
use crate::pkcs11::session::{Failure, Token};

/// Every `CKA_ID` of ours begins so, and the word of the usage follows.
const OURS: &str = "heirloom:";
/// 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];
const RSA_BITS: u64 = 2_048;

/// The DER of the names of curves.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const SECP256K1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// `PrintableString "edwards25519"`, which the standard allows too.
const ED25519_NAME: &[u8] =
    &[0x13, 0x0c, b'e', b'd', b'w', b'a', b'r', b'd', b's', b'2', b'5', b'5', b'1', b'9'];

/// A key as the token has it.
pub(super) struct Pair {
    pub(super) key: KeyHandle,
    pub(super) public: PublicKeyDer,
    /// Nothing if an import did not get that far.
    pub(super) private: Option<ObjectHandle>,
}

/// The key with this label: one public and at most one private object of one identifier.
pub(super) fn find(
    session: &Session,
    token: &Token,
    label: &Label,
) -> Result<Option<Pair>, Failure> {
    let name = Attribute::Label(label.as_str().as_bytes().to_vec());
    let corrupt = |why: String| {
        let what = format!("key {label} in {}", token.place());
        Failure::Custodian(CustodianError::Corrupt { what, why })
    };
    let mut publics = of_class(session, ObjectClass::PUBLIC_KEY, &name)?;
    let mut privates = of_class(session, ObjectClass::PRIVATE_KEY, &name)?;
    if publics.len() > 1 || privates.len() > 1 {
        let (public, private) = (publics.len(), privates.len());
        return Err(corrupt(format!("{public} public and {private} private objects carry it")));
    }
    let (public, private) = (publics.pop(), privates.pop());
    let Some(public) = public else {
        return match private {
            None => Ok(None),
            Some(_) => Err(corrupt("its public object is missing".to_owned())),
        };
    };
    let id = identifier(session, public)?;
    if let Some(private) = private {
        if identifier(session, private)? != id {
            return Err(corrupt("its two objects have different identifiers".to_owned()));
        }
        if is_loose(session, private)? {
            return Err(corrupt("its private object is not protected by the token".to_owned()));
        }
    }
    let key_id: KeyId =
        hex::encode(&id).parse().map_err(|_| corrupt("it has no identifier".to_owned()))?;
    let Some(usage) = usage_of(&id) else {
        let (id, place) = (key_id, token.place());
        return Err(Failure::Custodian(CustodianError::Foreign { id, place }));
    };
    let (scheme, public) = public_half(session, public)?.ok_or_else(|| {
        corrupt("its public object is of no scheme that is known here".to_owned())
    })?;
    let key = KeyHandle { id: key_id, label: label.clone(), usage, scheme };
    Ok(Some(Pair { key, public, private }))
}

/// The key with this identifier.
pub(super) fn open(session: &Session, token: &Token, id: &KeyId) -> Result<KeyHandle, Failure> {
    let place = token.place();
    let missing = || CustodianError::Missing { key: id.to_string(), place: place.clone() };
    let bytes = hex::decode(id.as_str()).map_err(|_| missing())?;
    let public = of_class(session, ObjectClass::PUBLIC_KEY, &Attribute::Id(bytes.clone()))?;
    let Some(object) = public.first() else { return Err(missing().into()) };
    let foreign = || CustodianError::Foreign { id: id.clone(), place: place.clone() };
    if usage_of(&bytes).is_none() {
        return Err(foreign().into());
    }
    let label = label_of(session, *object)?.ok_or_else(foreign)?;
    let found = find(session, token, &label)?.map(|pair| pair.key);
    Ok(found.filter(|key| key.id == *id).ok_or_else(missing)?)
}

/// Every key of ours.
pub(super) fn all(session: &Session, token: &Token) -> Result<Vec<KeyHandle>, Failure> {
    let ours = Attribute::Token(true);
    let mut labels = BTreeSet::new();
    for object in of_class(session, ObjectClass::PUBLIC_KEY, &ours)? {
        if usage_of(&identifier(session, object)?).is_none() {
            continue;
        }
        if let Some(label) = label_of(session, object)? {
            labels.insert(label);
        }
        if labels.len() > KEYS_MAX {
            return Err(Failure::Custodian(CustodianError::Refused {
                place: token.place(),
                what: "a list of its keys".to_owned(),
                why: format!("it has more than {KEYS_MAX}"),
            }));
        }
    }
    let mut keys = Vec::new();
    for label in &labels {
        keys.extend(find(session, token, label)?.map(|pair| pair.key));
    }
    Ok(keys)
}

/// Whether the token lets a private key do this.
pub(super) fn may(
    session: &Session,
    private: ObjectHandle,
    operation: Operation,
) -> Result<bool, Failure> {
    let (asked, wanted) = match operation {
        Operation::Decrypt => (AttributeType::Decrypt, Attribute::Decrypt(true)),
        Operation::Sign | Operation::Create | Operation::Import | Operation::Export => {
            (AttributeType::Sign, Attribute::Sign(true))
        }
    };
    Ok(session.get_attributes(private, &[asked])?.contains(&wanted))
}

/// The templates of one new key.
pub(super) struct Template<'r> {
    request: &'r KeyRequest,
    id: Vec<u8>,
}

impl<'r> Template<'r> {
    pub(super) fn new(request: &'r KeyRequest) -> Result<Self, CustodianError> {
        let mut random = [0; 8];
        rand::fill(&mut random).map_err(|_| CustodianError::Unreachable {
            place: "the generator of this machine".to_owned(),
            why: "it gave no bytes".to_owned(),
        })?;
        let id = format!("{OURS}{}:{}", request.usage, hex::encode(random)).into_bytes();
        Ok(Self { request, id })
    }

    /// For an object whose other half is there already.
    pub(super) fn with_id(self, id: &KeyId) -> Self {
        Self { id: hex::decode(id.as_str()).unwrap_or(self.id), ..self }
    }

    pub(super) fn public(&self) -> Vec<Attribute> {
        let mut template = vec![Attribute::Token(true), Attribute::Private(false)];
        template.extend(self.names());
        template.extend(public_parameters(self.request.scheme));
        template.push(match self.request.scheme.operation() {
            Operation::Decrypt => Attribute::Encrypt(true),
            _ => Attribute::Verify(true),
        });
        template
    }

    pub(super) fn private(&self) -> Vec<Attribute> {
        let mut template = vec![Attribute::Token(true)];
        template.extend(self.names());
        template.extend(protection(self.request.scheme));
        template
    }

    pub(super) fn imported_public(&self, public: &PublicKeyDer) -> Result<Vec<Attribute>, Failure> {
        let scheme = self.request.scheme;
        let raw = spki::raw(scheme, public).map_err(|error| CustodianError::Corrupt {
            what: "a public key".to_owned(),
            why: error.to_string(),
        })?;
        let mut template = vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(key_type(scheme)),
            Attribute::Token(true),
            Attribute::Private(false),
        ];
        template.extend(self.names());
        if scheme == KeyScheme::Rsa2048 {
            template.push(Attribute::Encrypt(true));
            template.push(Attribute::Modulus(raw.to_vec()));
            template.push(Attribute::PublicExponent(EXPONENT.to_vec()));
        } else {
            template.push(Attribute::Verify(true));
            template.extend(curve(scheme).map(|name| Attribute::EcParams(name.to_vec())));
            let length = u8::try_from(raw.len()).expect("a point has at most 97 bytes");
            template.push(Attribute::EcPoint([&[0x04, length], raw].concat()));
        }
        Ok(template)
    }

    pub(super) fn imported_private(&self, half: &PrivateHalf) -> Result<Vec<Attribute>, Failure> {
        let scheme = self.request.scheme;
        let mut template = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(key_type(scheme)),
            Attribute::Token(true),
        ];
        template.extend(self.names());
        template.extend(protection(scheme));
        match half.scalar()? {
            Some(scalar) => {
                template.extend(curve(scheme).map(|name| Attribute::EcParams(name.to_vec())));
                template.push(Attribute::Value(scalar.expose(<[u8]>::to_vec)));
            }
            None => template.extend(rsa::attributes(&half.pkcs8()?)?),
        }
        Ok(template)
    }

    fn names(&self) -> [Attribute; 2] {
        let label = self.request.label.as_str().as_bytes().to_vec();
        [Attribute::Label(label), Attribute::Id(self.id.clone())]
    }
}

/// Wipes what is secret in a template.
pub(super) fn wipe(template: &mut [Attribute]) {
    for attribute in template {
        match attribute {
            Attribute::Value(secret)
            | Attribute::PrivateExponent(secret)
            | Attribute::Prime1(secret)
            | Attribute::Prime2(secret)
            | Attribute::Exponent1(secret)
            | Attribute::Exponent2(secret)
            | Attribute::Coefficient(secret) => secret.zeroize(),
            _ => {}
        }
    }
}

/// Templates of a pair that ends with its session.
pub(super) fn trial(scheme: KeyScheme) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut public = vec![Attribute::Token(false)];
    public.extend(public_parameters(scheme));
    let mut private = vec![Attribute::Token(false)];
    private.extend(protection(scheme));
    (public, private)
}

/// How keys of a scheme are made.
pub(super) fn generation(scheme: KeyScheme) -> Mechanism<'static> {
    match scheme {
        KeyScheme::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
        KeyScheme::Rsa2048 => Mechanism::RsaPkcsKeyPairGen,
        KeyScheme::P256
        | KeyScheme::P384
        | KeyScheme::Secp256k1
        | KeyScheme::MlDsa65
        | KeyScheme::EciesP256 => Mechanism::EccKeyPairGen,
    }
}

/// What every private key of ours is: never seen outside, and for one thing.
fn protection(scheme: KeyScheme) -> [Attribute; 5] {
    let decrypts = scheme.operation() == Operation::Decrypt;
    [
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(!decrypts),
        Attribute::Decrypt(decrypts),
    ]
}

fn public_parameters(scheme: KeyScheme) -> Vec<Attribute> {
    match curve(scheme) {
        Some(name) => vec![Attribute::EcParams(name.to_vec())],
        None => vec![
            Attribute::ModulusBits(RSA_BITS.into()),
            Attribute::PublicExponent(EXPONENT.to_vec()),
        ],
    }
}

fn curve(scheme: KeyScheme) -> Option<&'static [u8]> {
    match scheme {
        KeyScheme::Ed25519 => Some(ED25519),
        KeyScheme::P256 => Some(P256),
        KeyScheme::P384 => Some(P384),
        KeyScheme::Secp256k1 => Some(SECP256K1),
        KeyScheme::Rsa2048 | KeyScheme::MlDsa65 | KeyScheme::EciesP256 => None,
    }
}

fn key_type(scheme: KeyScheme) -> KeyType {
    match scheme {
        KeyScheme::Ed25519 => KeyType::EC_EDWARDS,
        KeyScheme::Rsa2048 => KeyType::RSA,
        KeyScheme::P256
        | KeyScheme::P384
        | KeyScheme::Secp256k1
        | KeyScheme::MlDsa65
        | KeyScheme::EciesP256 => KeyType::EC,
    }
}

fn of_class(
    session: &Session,
    class: ObjectClass,
    attribute: &Attribute,
) -> Result<Vec<ObjectHandle>, Failure> {
    let template = [Attribute::Class(class), Attribute::Token(true), attribute.clone()];
    Ok(session.find_objects(&template)?)
}

fn identifier(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Failure> {
    let found = session.get_attributes(object, &[AttributeType::Id])?;
    Ok(found
        .into_iter()
        .find_map(|attribute| match attribute {
            Attribute::Id(id) => Some(id),
            _ => None,
        })
        .unwrap_or_default())
}

fn label_of(session: &Session, object: ObjectHandle) -> Result<Option<Label>, Failure> {
    let found = session.get_attributes(object, &[AttributeType::Label])?;
    Ok(found.into_iter().find_map(|attribute| match attribute {
        Attribute::Label(label) => String::from_utf8(label).ok()?.parse().ok(),
        _ => None,
    }))
}

/// Whether the private key could be read by who is logged in.
fn is_loose(session: &Session, private: ObjectHandle) -> Result<bool, Failure> {
    let asked = [AttributeType::Sensitive, AttributeType::Extractable];
    let found = session.get_attributes(private, &asked)?;
    let is_protected = found.contains(&Attribute::Sensitive(true))
        && found.contains(&Attribute::Extractable(false));
    Ok(!is_protected)
}

fn usage_of(id: &[u8]) -> Option<KeyUsage> {
    let text = std::str::from_utf8(id).ok()?.strip_prefix(OURS)?;
    text.split_once(':')?.0.parse().ok()
}

fn public_half(
    session: &Session,
    public: ObjectHandle,
) -> Result<Option<(KeyScheme, PublicKeyDer)>, Failure> {
    let found = session.get_attributes(public, &[AttributeType::KeyType])?;
    if found.contains(&Attribute::KeyType(KeyType::RSA)) {
        let asked = [AttributeType::Modulus, AttributeType::PublicExponent];
        let found = session.get_attributes(public, &asked)?;
        return Ok(rsa_half(&found));
    }
    let asked = [AttributeType::EcParams, AttributeType::EcPoint];
    let found = session.get_attributes(public, &asked)?;
    Ok(curve_half(&found))
}

fn rsa_half(attributes: &[Attribute]) -> Option<(KeyScheme, PublicKeyDer)> {
    let exponent = attributes.iter().find_map(|attribute| match attribute {
        Attribute::PublicExponent(exponent) => Some(exponent.as_slice()),
        _ => None,
    })?;
    if exponent != EXPONENT {
        return None;
    }
    let modulus = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Modulus(modulus) => Some(modulus),
        _ => None,
    })?;
    spki::compose(KeyScheme::Rsa2048, modulus).ok().map(|public| (KeyScheme::Rsa2048, public))
}

fn curve_half(attributes: &[Attribute]) -> Option<(KeyScheme, PublicKeyDer)> {
    let name = attributes.iter().find_map(|attribute| match attribute {
        Attribute::EcParams(name) => Some(name.as_slice()),
        _ => None,
    })?;
    let point = attributes.iter().find_map(|attribute| match attribute {
        Attribute::EcPoint(point) => Some(point.as_slice()),
        _ => None,
    })?;
    let scheme = match name {
        P256 => KeyScheme::P256,
        P384 => KeyScheme::P384,
        SECP256K1 => KeyScheme::Secp256k1,
        ED25519 | ED25519_NAME => KeyScheme::Ed25519,
        _ => return None,
    };
    // The standard wraps the point into an OCTET STRING, and some tokens do not.
    let wrapped = match point {
        [0x04, length, raw @ ..] if usize::from(*length) == raw.len() => Some(raw),
        _ => None,
    };
    let candidates = [wrapped, Some(point)];
    let public = candidates.into_iter().flatten().find_map(|raw| spki::compose(scheme, raw).ok());
    public.map(|public| (scheme, public))
}
