//! Country and network of an address, by the operator's own files in MaxMind's format (`geoip` in the configuration).
//!
//! Only commands look there: the daemon decides nothing by it. The files are read into memory, since of a file that is mapped
//! an updater can take the end away, which ends the program. Strangers made them: what they say is cleaned and cut, and a
//! broken one is left out and named.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use maxminddb::Reader;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::model::{Offender, plain};

/// The most characters of a name.
const LONGEST: usize = 40;
/// The largest file that is read, in bytes; the largest of MaxMind's have half of that.
const LARGEST: u64 = 1 << 30;

/// In which country and network an address is, as far as the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GeoRecord {
    /// The country, by its code of two letters (ISO 3166-1) where the files have that.
    pub country: Option<String>,
    /// The number of the network (AS) that announces the address.
    pub asn: Option<u32>,
    /// The name of that network, its control characters replaced; 40 characters at most.
    pub as_name: Option<String>,
}

impl fmt::Display for GeoRecord {
    /// `NL AS64496 Example`; nothing of what is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asn = self.asn.map(|asn| format!("AS{asn}"));
        let words: Vec<&str> =
            [&self.country, &asn, &self.as_name].into_iter().filter_map(Option::as_deref).collect();
        f.write_str(&words.join(" "))
    }
}

/// The files, open.
#[derive(Debug, Default)]
pub struct GeoIp {
    files: Vec<(PathBuf, Reader<Vec<u8>>)>,
    faults: Vec<String>,
}

impl GeoIp {
    /// Reads these files; what cannot be read is left out, and [`faults`](Self::faults) names it.
    pub fn open(paths: &[PathBuf]) -> Self {
        let mut open = Self::default();
        for path in paths {
            match read(path) {
                Ok(reader) => open.files.push((path.clone(), reader)),
                Err(error) => open.faults.push(plain(format!("cannot read `{}`: {error:#}", path.display()))),
            }
        }
        open
    }

    /// The files that can be read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Whether there is nothing to look into.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What was wrong with the files since this was last asked, for people; each is named once.
    pub fn faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// Where all addresses of `who` are: of a prefix in several records nothing is known. Of two files that say the same
    /// kind of thing the first counts.
    pub fn find(&mut self, who: Offender) -> GeoRecord {
        let mut found = GeoRecord::default();
        let Self { files, faults } = self;
        files.retain(|(path, reader)| match look_up(reader, who) {
            Ok(GeoRecord { country, asn, as_name }) => {
                found.country = found.country.take().or(country);
                if found.asn.is_none() {
                    (found.asn, found.as_name) = (asn, as_name.or(found.as_name.take()));
                }
                true
            }
            Err(error) => {
                faults.push(plain(format!("cannot read `{}`: {error}", path.display())));
                false
            }
        });
        found
    }
}

fn read(path: &Path) -> anyhow::Result<Reader<Vec<u8>>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    ensure!(about.is_file() && about.len() <= LARGEST, "not a file of at most 1 GiB");
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Reader::from_source(bytes).context("not a file in MaxMind's format")
}

fn look_up(reader: &Reader<Vec<u8>>, who: Offender) -> Result<GeoRecord, maxminddb::MaxMindDbError> {
    let address = who.address();
    if address.is_ipv6() && reader.metadata().ip_version == 4 {
        return Ok(GeoRecord::default());
    }
    let found = reader.lookup(address)?;
    if !found.has_data() {
        return Ok(GeoRecord::default());
    }
    let network = found.network()?;
    let bits = match (address, network.ip()) {
        // IPv4 lies in the last 32 bits of IPv6 there.
        (IpAddr::V4(_), IpAddr::V6(_)) => network.prefix().saturating_sub(96),
        _ => network.prefix(),
    };
    if bits > who.prefix() {
        return Ok(GeoRecord::default());
    }
    Ok(found.decode::<GeoFields>()?.map(GeoRecord::from).unwrap_or_default())
}

/// What is of use in a record, by the names that MaxMind, DB-IP, IP2Location and IPinfo give it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GeoFields {
    country: Option<GeoField>,
    country_code: Option<GeoField>,
    registered_country: Option<GeoField>,
    autonomous_system_number: Option<GeoField>,
    asn: Option<GeoField>,
    autonomous_system_organization: Option<GeoField>,
    as_name: Option<GeoField>,
    name: Option<GeoField>,
}

/// A value of one of the types that it has in one of the schemas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum GeoField {
    Number(u32),
    Text(String),
    Country { iso_code: String },
    Other(IgnoredAny),
}

impl GeoField {
    fn text(self) -> Option<String> {
        let (Self::Text(text) | Self::Country { iso_code: text }) = self else { return None };
        let text: String = plain(text.trim()).chars().take(LONGEST).collect();
        Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
    }

    /// `64496` or `AS64496`.
    fn number(self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.trim_start_matches("AS").parse().ok(),
            Self::Country { .. } | Self::Other(_) => None,
        }
    }
}

impl From<GeoFields> for GeoRecord {
    fn from(fields: GeoFields) -> Self {
        // IPinfo's `country` is a name where there is a code beside it.
        let countries = [fields.country_code, fields.country, fields.registered_country];
        let asn =
            [fields.autonomous_system_number, fields.asn].into_iter().flatten().find_map(GeoField::number);
        let names = [fields.autonomous_system_organization, fields.as_name, fields.name];
        Self {
            country: countries.into_iter().flatten().find_map(GeoField::text),
            asn,
            as_name: names.into_iter().flatten().find_map(GeoField::text).filter(|_| asn.is_some()),
        }
    }
}
