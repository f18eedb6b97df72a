//! Keys of a TPM: the root of our objects, the attestation key, endorsement keys.

use heirloom_model::secret::Secret;

use crate::call::{Answer, Authorisation, Call};
use crate::client::Tpm;
use crate::code::{CommandCode, ResponseCode};
use crate::error::{Absent, TpmError};
use crate::limit::{CERTIFICATE_BYTES_MAX, NV_READ_BYTES};
use crate::public::{Point, PublicArea, PublicKey, Template};
use crate::session::Session;
use crate::structure::{ENDORSEMENT, Name, OWNER, Target};
use crate::wire::{Reader, Writer};

/// Where our storage root is kept.
pub const STORAGE_ROOT_HANDLE: u32 = 0x8100_4801;
/// Where our attestation key is kept.
pub const ATTESTATION_KEY_HANDLE: u32 = 0x8100_4802;

/// A loaded object, which is unloaded when it is dropped unless it is permanent.
pub(crate) struct Object<'tpm> {
    tpm: &'tpm Tpm,
    handle: u32,
    area: PublicArea,
    permanent: bool,
}

impl<'tpm> Object<'tpm> {
    /// A permanent object, if there is one.
    fn permanent(tpm: &'tpm Tpm, handle: u32) -> Result<Option<Self>, TpmError> {
        let found = found(tpm, handle)?;
        Ok(found.map(|(area, _qualified)| Self { tpm, handle, area, permanent: true }))
    }

    /// The root key of a hierarchy by a template: the same one each time.
    fn primary(tpm: &'tpm Tpm, hierarchy: u32, template: &Template) -> Result<Self, TpmError> {
        let parameters = Writer::new()
            .sized(Writer::new().sized(&[]).sized(&[]).as_slice())
            .sized(&template.to_bytes())
            .sized(&[])
            .u32(0);
        let call = Call::new(CommandCode::CreatePrimary, parameters)
            .about([Target::bare(hierarchy)])
            .answering_handle();
        let answer = match hierarchy {
            OWNER => tpm.run_as_owner(call)?,
            _ => tpm.run(call, vec![Authorisation::Empty])?,
        };
        Self::loaded(tpm, answer.handle, |_| {
            let mut reader = answer.reader();
            let area = PublicArea::parse(reader.sized()?)?;
            if area.is_made_from(template) {
                Ok(area)
            } else {
                Err(reader.corrupt("it is not the key that was asked for"))
            }
        })
    }

    /// An object that is loaded now. It is unloaded again if what is known about it is wrong.
    pub(crate) fn loaded(
        tpm: &'tpm Tpm,
        handle: u32,
        area: impl FnOnce(&Tpm) -> Result<PublicArea, TpmError>,
    ) -> Result<Self, TpmError> {
        match area(tpm) {
            Ok(area) => Ok(Self { tpm, handle, area, permanent: false }),
            Err(error) => {
                drop(tpm.flush(handle));
                Err(error)
            }
        }
    }

    /// Loads what a parent protects, with its private part as the parent gave it out.
    pub(crate) fn load(
        root: &StorageRoot<'tpm>,
        area: PublicArea,
        private: &[u8],
    ) -> Result<Self, TpmError> {
        let parameters = Writer::new().sized(private).sized(area.as_bytes());
        let call =
            Call::new(CommandCode::Load, parameters).about([root.target()]).answering_handle();
        let answer = root.tpm().run(call, vec![Authorisation::Empty])?;
        Self::loaded(root.tpm(), answer.handle, |_| {
            let mut reader = answer.reader();
            if reader.sized()? != area.name().as_bytes() {
                return Err(reader.corrupt("its name is not that of what was loaded"));
            }
            reader.end()?;
            Ok(area)
        })
    }

    /// Makes it permanent.
    fn persist(self, handle: u32) -> Result<Self, TpmError> {
        let call = Call::new(CommandCode::EvictControl, Writer::new().u32(handle))
            .about([Target::bare(OWNER), self.target()]);
        self.tpm.run_as_owner(call)?;
        Ok(Self { tpm: self.tpm, handle, area: self.area.clone(), permanent: true })
    }

    pub(crate) fn tpm(&self) -> &'tpm Tpm {
        self.tpm
    }

    pub(crate) fn target(&self) -> Target {
        Target::named(self.handle, self.area.name())
    }

    fn point(&self) -> Result<Point, TpmError> {
        match self.area.key() {
            PublicKey::P256(point) => Ok(*point),
            _ => Err(TpmError::Corrupt { subject: "a key", what: "it is not of P-256" }),
        }
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if !self.permanent {
            // Leftovers are removed by the next client that has the TPM for itself.
            drop(self.tpm.flush(self.handle));
        }
    }
}

/// The P-256 key under which our objects are kept, and with which salts are shared.
///
/// It is a function of the owner's seed: clearing the TPM ends it and everything under it.
pub struct StorageRoot<'tpm>(Object<'tpm>);

impl<'tpm> StorageRoot<'tpm> {
    /// The permanent one, made if it is missing.
    ///
    /// Something else in its place is refused as corrupt, and never replaced.
    pub fn open(tpm: &'tpm Tpm) -> Result<Self, TpmError> {
        let Some(object) = Object::permanent(tpm, STORAGE_ROOT_HANDLE)? else {
            let made = Self::transient(tpm)?;
            return made.0.persist(STORAGE_ROOT_HANDLE).map(Self);
        };
        if object.area.is_made_from(&Template::storage_root()) {
            Ok(Self(object))
        } else {
            Err(TpmError::Corrupt {
                subject: "the permanent storage root",
                what: "another kind of object is in its place",
            })
        }
    }

    /// The same key, loaded until it is dropped.
    pub fn transient(tpm: &'tpm Tpm) -> Result<Self, TpmError> {
        Object::primary(tpm, OWNER, &Template::storage_root()).map(Self)
    }

    /// Its name. Whoever notes it with what was sealed finds out later if somebody between us and
    /// the TPM shows another key in order to read secrets.
    pub fn name(&self) -> Name {
        self.0.area.name()
    }

    /// Refuses a root with another name than the one noted before.
    pub fn require(self, name: &Name) -> Result<Self, TpmError> {
        if self.name() == *name {
            Ok(self)
        } else {
            Err(TpmError::Corrupt {
                subject: "the storage root",
                what: "it is not the one that was noted",
            })
        }
    }

    /// The qualified name of what has this name and is directly under it (part 1, 16).
    fn qualify(&self, name: Name) -> Vec<u8> {
        let own = Name::of(&[&OWNER.to_be_bytes(), self.name().as_bytes().as_slice()].concat());
        Name::of(&[own.as_bytes().as_slice(), name.as_bytes()].concat()).as_bytes().to_vec()
    }

    pub(crate) fn tpm(&self) -> &'tpm Tpm {
        self.0.tpm()
    }

    pub(crate) fn target(&self) -> Target {
        self.0.target()
    }

    pub(crate) fn point(&self) -> Result<Point, TpmError> {
        self.0.point()
    }

    /// Makes an object under it, and gives out its two parts. A value for it is encrypted on the
    /// way, and the answer is authenticated.
    pub(crate) fn create(
        &self,
        template: &Template,
        sensitive: Sensitive<'_>,
    ) -> Result<(PublicArea, Vec<u8>), TpmError> {
        let empty: &[u8] = &[];
        let value = match sensitive {
            Sensitive::Own => empty,
            Sensitive::Value(value) => value,
        };
        let parameters = Writer::new()
            .sized(Writer::new().sized(value).sized(&[]).as_slice())
            .sized(&template.to_bytes())
            .sized(&[])
            .u32(0);
        let call = Call::new(CommandCode::Create, parameters).about([self.target()]);
        let mut session = Session::salted(self)?;
        let call = call.with_secret_parameter().ending_session();
        let answer = self.tpm().run(call, vec![Authorisation::Session(&mut session, &[])])?;
        let mut reader = answer.reader();
        let private = reader.sized()?.to_vec();
        let area = PublicArea::parse(reader.sized()?)?;
        if area.is_made_from(template) {
            Ok((area, private))
        } else {
            Err(reader.corrupt("it is not the object that was asked for"))
        }
    }
}

/// What is said about a new object besides its template. The key itself the TPM makes.
#[derive(Clone, Copy)]
pub(crate) enum Sensitive<'bytes> {
    /// Nothing: a policy authorises its use, and no value.
    Own,
    /// This value authorises its use.
    Value(&'bytes [u8; 32]),
}

/// A restricted P-256 key: it signs nothing but statements that the TPM made itself, and only for
/// whoever knows the value that authorises its use.
pub struct AttestationKey<'root, 'tpm> {
    object: Object<'tpm>,
    root: &'root StorageRoot<'tpm>,
    value: Secret<32>,
}

impl<'root, 'tpm> AttestationKey<'root, 'tpm> {
    /// The permanent one, with the value that authorises its use. Something else in its place is
    /// refused as foreign, and never replaced; whether it answers to the value, its use says, and
    /// [`Self::prove`].
    pub fn open(root: &'root StorageRoot<'tpm>, value: Secret<32>) -> Result<Self, TpmError> {
        let handle = ATTESTATION_KEY_HANDLE;
        let Some((area, qualified)) = found(root.tpm(), handle)? else {
            return Err(TpmError::Missing(Absent::Object(handle)));
        };
        if !area.is_made_from(&Template::attestation_key()) {
            return Err(TpmError::Foreign { handle, what: "it is another kind of object" });
        }
        if qualified != root.qualify(area.name()) {
            return Err(TpmError::Foreign { handle, what: "it is under another parent" });
        }
        let object = Object { tpm: root.tpm(), handle, area, permanent: true };
        Ok(Self { object, root, value })
    }

    /// Makes the permanent one. If anything is in its place, the TPM refuses.
    pub fn make(root: &'root StorageRoot<'tpm>, value: Secret<32>) -> Result<Self, TpmError> {
        let Self { object, value, .. } = Self::create(root, value)?;
        Ok(Self { object: object.persist(ATTESTATION_KEY_HANDLE)?, root, value })
    }

    /// A new one, which ends when it is dropped.
    pub fn create(root: &'root StorageRoot<'tpm>, value: Secret<32>) -> Result<Self, TpmError> {
        let template = Template::attestation_key();
        let (area, private) =
            value.expose(|value| root.create(&template, Sensitive::Value(value)))?;
        Ok(Self { object: Object::load(root, area, &private)?, root, value })
    }

    /// Whether anything is in the place of the permanent one.
    pub fn is_taken(tpm: &Tpm) -> Result<bool, TpmError> {
        Ok(found(tpm, ATTESTATION_KEY_HANDLE)?.is_some())
    }

    /// Its public area, whose name a credential is made for.
    pub fn public(&self) -> &PublicArea {
        &self.object.area
    }

    /// Its public key.
    pub fn point(&self) -> Result<Point, TpmError> {
        self.object.point()
    }

    pub(crate) fn tpm(&self) -> &'tpm Tpm {
        self.object.tpm()
    }

    pub(crate) fn root(&self) -> &'root StorageRoot<'tpm> {
        self.root
    }

    pub(crate) fn target(&self) -> Target {
        self.object.target()
    }

    /// Gives a command that needs the key's value first, and these authorisations after it. What
    /// comes back is authenticated, and encrypted if it is secret.
    pub(crate) fn run(
        &self,
        call: Call,
        others: Vec<Authorisation<'_, 'tpm>>,
    ) -> Result<Answer, TpmError> {
        let mut session = Session::salted(self.root)?;
        let answer = self.value.expose(|value| {
            let mut authorisations = vec![Authorisation::Session(&mut session, value)];
            authorisations.extend(others);
            self.tpm().run(call, authorisations)
        });
        answer.map_err(|error| match error.refusal() {
            Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL) => TpmError::Foreign {
                handle: self.object.handle,
                what: "it answers to another value than that of this machine",
            },
            _ => error,
        })
    }
}

/// Which endorsement key. Most TPMs have the certificate of the RSA key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndorsementKind {
    /// ECC on P-256 (template L-2).
    P256,
    /// RSA with 2048 bits (template L-1).
    Rsa2048,
}

impl EndorsementKind {
    /// Where its certificate is in non-volatile memory (TCG EK credential profile, 2.2.1.4).
    fn certificate_index(self) -> u32 {
        match self {
            Self::P256 => 0x01c0_000a,
            Self::Rsa2048 => 0x01c0_0002,
        }
    }

    fn template(self) -> Template {
        match self {
            Self::P256 => Template::endorsement_p256(),
            Self::Rsa2048 => Template::endorsement_rsa(),
        }
    }
}

/// A key that the manufacturer certified: it identifies the TPM, and only decrypts.
pub struct EndorsementKey<'tpm>(Object<'tpm>);

impl<'tpm> EndorsementKey<'tpm> {
    /// The default key of a kind, loaded until it is dropped. An RSA key takes a TPM seconds.
    pub fn open(tpm: &'tpm Tpm, kind: EndorsementKind) -> Result<Self, TpmError> {
        Object::primary(tpm, ENDORSEMENT, &kind.template()).map(Self)
    }

    /// Its public area.
    pub fn public(&self) -> &PublicArea {
        &self.0.area
    }

    pub(crate) fn target(&self) -> Target {
        self.0.target()
    }
}

/// The DER certificate of an endorsement key, as the manufacturer stored it. Nothing is verified.
pub fn endorsement_certificate(tpm: &Tpm, kind: EndorsementKind) -> Result<Vec<u8>, TpmError> {
    let index = kind.certificate_index();
    let (size, name) = index_size(tpm, index)?;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let length = NV_READ_BYTES.min(size - bytes.len());
        let short = |value| u16::try_from(value).expect("the size is a u16");
        let parameters = Writer::new().u16(short(length)).u16(short(bytes.len()));
        let target = Target::named(index, name);
        let call = Call::new(CommandCode::NvRead, parameters).about([target, target]);
        let answer = tpm.run(call, vec![Authorisation::Empty])?;
        let mut reader = answer.reader();
        let part = reader.sized()?;
        if part.len() != length {
            return Err(reader.corrupt("it is shorter than was asked for"));
        }
        bytes.extend_from_slice(part);
        reader.end()?;
    }
    let length = certificate_length(&bytes).ok_or(TpmError::Corrupt {
        subject: "the endorsement certificate",
        what: "it is no DER sequence",
    })?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Size and name of an index that holds a certificate.
fn index_size(tpm: &Tpm, index: u32) -> Result<(usize, Name), TpmError> {
    let area = read_index(tpm, index)?.ok_or(TpmError::Missing(Absent::Index(index)))?;
    let mut reader = Reader::new("an index", &area);
    let (found, _algorithm, _attributes) = (reader.u32()?, reader.u16()?, reader.u32()?);
    let _policy = reader.sized()?;
    let size = usize::from(reader.u16()?);
    if found != index || size > CERTIFICATE_BYTES_MAX {
        return Err(reader.corrupt("it is not the index of a certificate"));
    }
    reader.end()?;
    Ok((size, Name::of(&area)))
}

/// The public area of an index; none if there is no such index.
pub(crate) fn read_index(tpm: &Tpm, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
    let call = Call::new(CommandCode::NvReadPublic, Writer::new()).about([Target::bare(index)]);
    let answer = match tpm.run(call, Vec::new()) {
        Ok(answer) => answer,
        Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut reader = answer.reader();
    let area = reader.sized()?.to_vec();
    let _name = reader.sized()?;
    reader.end()?;
    Ok(Some(area))
}

/// What is at the handle of a permanent object, if anything, with its qualified name.
fn found(tpm: &Tpm, handle: u32) -> Result<Option<(PublicArea, Vec<u8>)>, TpmError> {
    match read_public(tpm, handle) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The public area of an object, and its qualified name, which says under what it is.
fn read_public(tpm: &Tpm, handle: u32) -> Result<(PublicArea, Vec<u8>), TpmError> {
    let call = Call::new(CommandCode::ReadPublic, Writer::new()).about([Target::bare(handle)]);
    let answer = tpm.run(call, Vec::new())?;
    let mut reader = answer.reader();
    let area = PublicArea::parse(reader.sized()?)?;
    let (name, qualified) = (reader.sized()?, reader.sized()?.to_vec());
    if name != area.name().as_bytes() {
        return Err(reader.corrupt("its name is not that of its public area"));
    }
    reader.end()?;
    Ok((area, qualified))
}

/// The length of the DER sequence at the start: manufacturers fill the index up.
fn certificate_length(bytes: &[u8]) -> Option<usize> {
    let [0x30, 0x82, high, low, ..] = bytes else { return None };
    let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
    (length <= bytes.len()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_where_its_length_says() {
        assert_eq!(certificate_length(&[0x30, 0x82, 0, 2, 1, 2, 0xff, 0xff]), Some(6));
        assert_eq!(certificate_length(&[0x30, 0x82, 0, 3, 1, 2]), None);
        assert_eq!(certificate_length(&[0x31, 0x82, 0, 0]), None);
        assert_eq!(certificate_length(&[]), None);
    }
}
