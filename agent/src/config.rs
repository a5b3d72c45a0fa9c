//! What the program is told at its start, by flags or environment. Parsed once; a bad value names the variable and shows
//! one that would do.

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::str::FromStr;

use bellwether_core::account::Account;
use bellwether_core::{Labels, Name};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use http::Uri;
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

/// Carries the token when no file does. Not a flag: the arguments of a process are there for all to read.
const TOKEN_VARIABLE: &str = "BELLWETHER_TOKEN";

/// The agent itself has no name among the commands: it is what the program is for.
const SIMULATE: &str = "simulate";
const POLICY: &str = "policy";
const CHECK: &str = "check";

/// What the program is to do.
#[derive(Debug)]
pub enum Call {
    Run(Config),
    Simulate(Simulation),
    CheckPolicy(PolicyCheck),
}

/// Runs in a cluster: applies what the hub assigns to it, keeps it so, and reports what it sees.
#[derive(Debug, Parser)]
#[command(name = "bellwether-agent", version)]
pub struct Config {
    /// Where the hub takes its agents' connections
    #[arg(long, env = "BELLWETHER_HUB", value_name = "HOST:PORT")]
    pub(crate) hub: HubAddress,

    /// SHA-256 of the hub's root certificate (its DER), as `bellwether cluster register` prints it
    #[arg(long, env = "BELLWETHER_CA_FINGERPRINT", value_name = "HEX")]
    pub(crate) ca_fingerprint: Fingerprint,

    /// File with the single-use join token [default: $BELLWETHER_TOKEN]; only needed until the cluster has joined
    #[arg(long, env = "BELLWETHER_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// The namespace that the agent is installed in; its identity is kept there
    #[arg(long, env = "BELLWETHER_NAMESPACE", default_value = "bellwether-system", value_parser = parse_namespace)]
    pub(crate) namespace: Name,

    /// How to reach the API server [default: as a pod does]
    #[arg(long, env = "BELLWETHER_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// What the cluster's owner allows, whatever the hub says; while it cannot be read, nothing is written [default:
    /// /etc/bellwether/policy.yaml, if that is there]
    #[arg(long, env = "BELLWETHER_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// How often it polls which version its cluster has and what it serves
    #[arg(long, env = "BELLWETHER_POLL_SECONDS", value_name = "N", default_value_t = 300, hide = true)]
    pub(crate) poll_seconds: u64,

    /// Whether the hub may ask what would become of a bundle: `false` refuses it, whoever asks
    #[arg(long, env = "BELLWETHER_DRY_RUN", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) dry_run: bool,

    /// How log lines look
    #[arg(long, env = "BELLWETHER_LOG", value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log: LogFormat,

    /// From the environment; `--token-file` wins over it.
    #[arg(skip)]
    pub(crate) token: Option<SecretString>,
}

/// Joins many agents without clusters to a hub, for load tests
///
/// What they are assigned they report as applied and healthy at once. Figures are printed as lines of JSON; Ctrl-C ends
/// it. The clusters stay registered.
#[derive(Debug, Args)]
pub struct Simulation {
    /// How many agents
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,

    /// The hub's API; its token is taken from $BELLWETHER_TOKEN
    #[arg(long, env = "BELLWETHER_URL", value_name = "URL", value_parser = parse_api)]
    pub(crate) url: HubAddress,

    /// The hub's root certificate, a PEM file
    #[arg(long, env = "BELLWETHER_CA", value_name = "FILE")]
    pub(crate) ca: PathBuf,

    /// What the clusters' names begin with; those that are registered already are enrolled again
    #[arg(long, value_name = "NAME", default_value = "sim", value_parser = parse_prefix)]
    pub(crate) prefix: Name,

    /// A label of all clusters, beside simulated=true; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,

    /// How many join at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) at_once: u32,

    /// Seconds between two lines of figures, once all have joined
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) every_seconds: u32,

    #[arg(skip)]
    pub(crate) token: SecretString,
}

/// Says whether a policy can be read, and what it would allow
///
/// Exit codes: 0 it can be read, and allows all that was asked about; 1 it refuses some of that; 2 it cannot be read.
#[derive(Debug, Clone, Args)]
pub struct PolicyCheck {
    /// The policy, a YAML file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// GROUP/KIND of an object to ask about, such as apps/Deployment or core/Secret
    #[arg(long, value_name = "GROUP/KIND", value_parser = parse_kind)]
    pub(crate) kind: Option<AskedKind>,

    /// Whose target has the object
    #[arg(long, value_name = "NAME", default_value = "default", requires = "kind")]
    pub(crate) project: Name,

    /// What the object is in; left out for what is cluster-scoped
    #[arg(long, value_name = "NAME", requires = "kind")]
    pub(crate) namespace: Option<String>,

    /// The object's name, which matters of a Namespace
    #[arg(long, value_name = "NAME", default_value = "", requires = "kind")]
    pub(crate) name: String,

    /// The namespace of its target and its `sync.serviceAccount`
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "kind", value_parser = parse_account)]
    pub(crate) service_account: Option<Account>,
}

/// A kind that a person asks about.
#[derive(Debug, Clone)]
pub(crate) struct AskedKind {
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

impl Simulation {
    pub(crate) fn labels(&self) -> Labels {
        let own = ("simulated".to_owned(), "true".to_owned());
        std::iter::once(own).chain(self.labels.iter().cloned()).collect()
    }

    /// Warnings of a thousand agents would say one thing a thousand times.
    pub fn start_logging(&self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
        let _ = logs.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).try_init();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Json,
    Pretty,
}

impl Call {
    /// From the arguments and environment of this process; what is wrong is said on standard error, and ends it.
    pub fn from_process() -> Self {
        let token = std::env::var(TOKEN_VARIABLE).ok().as_deref().and_then(token);
        Self::parse(std::env::args_os(), token).unwrap_or_else(|error| error.exit())
    }

    fn parse<T: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
        token: Option<SecretString>,
    ) -> Result<Self, clap::Error> {
        let simulate = Simulation::augment_args(clap::Command::new(SIMULATE));
        let check = PolicyCheck::augment_args(clap::Command::new(CHECK));
        let policy = clap::Command::new(POLICY).about("Looks at a policy, and asks no cluster");
        let policy = policy.subcommand(check).subcommand_required(true).arg_required_else_help(true);
        let mut command = Config::command()
            .subcommand(simulate)
            .subcommand(policy)
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true);
        let matches = command.try_get_matches_from_mut(arguments)?;
        let matches = match matches.subcommand() {
            Some((SIMULATE, matches)) => matches.clone(),
            Some((_, policy)) => {
                let check = policy.subcommand_matches(CHECK).expect("clap asks for it");
                return Ok(Self::CheckPolicy(PolicyCheck::from_arg_matches(check)?));
            }
            None => return Ok(Self::Run(Config { token, ..Config::from_arg_matches(&matches)? })),
        };
        let missing = || command.error(ErrorKind::MissingRequiredArgument, "BELLWETHER_TOKEN is not set: an API token");
        let token = token.ok_or_else(missing)?;
        Ok(Self::Simulate(Simulation { token, ..Simulation::from_arg_matches(&matches)? }))
    }
}

impl Config {
    /// Sends log lines to standard output, filtered by `RUST_LOG`.
    pub fn start_logging(&self) {
        // kube logs each request that fails, and as an error: what matters of that is logged where it is handled.
        let quiet = || EnvFilter::new("info,kube_client=off,kube_runtime=off");
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet());
        let is_terminal = std::io::stdout().is_terminal();
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(is_terminal);
        // A second start, in tests, finds the first one's subscriber.
        let _ = match self.log {
            LogFormat::Json => logs.json().flatten_event(true).try_init(),
            LogFormat::Pretty => logs.try_init(),
        };
    }
}

/// A token without the white space that editors and `echo` leave at its end; `None` when nothing is left.
pub(crate) fn token(text: &str) -> Option<SecretString> {
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| SecretString::from(trimmed))
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HubAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |host: &str| {
            let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let host = bracketed.unwrap_or(host);
            let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            let fits = host.bytes().all(|byte| may_stand(byte) || (bracketed.is_some() && byte == b':'));
            (!host.is_empty() && fits).then(|| host.to_owned())
        };
        text.rsplit_once(':')
            .and_then(|(host, port)| {
                Some(Self { host: plain(host)?, port: port.parse().ok().filter(|&port| port > 0)? })
            })
            .ok_or_else(|| "BELLWETHER_HUB is HOST:PORT, for example hub.example.com:8443".to_owned())
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(der: &[u8]) -> Self {
        Self(*bellwether_core::Digest::of(der).as_bytes())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        // `openssl x509 -fingerprint` puts colons between the pairs.
        let digits = text.trim().replace(':', "");
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| {
            "BELLWETHER_CA_FINGERPRINT is 64 hexadecimal digits, for example \
             9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
                .to_owned()
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse_api(text: &str) -> Result<HubAddress, String> {
    let form = || "BELLWETHER_URL is https://HOST[:PORT], for example https://hub.example.com:8443".to_owned();
    let url: Uri = text.parse().map_err(|_| form())?;
    let host = url.host().filter(|_| url.scheme_str() == Some("https") && url.path() == "/").ok_or_else(form)?;
    format!("{host}:{}", url.port_u16().unwrap_or(443)).parse().map_err(|_| form())
}

fn parse_prefix(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error| format!("--prefix: {error}, for example sim"))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("--label is KEY=VALUE, for example ring=stable")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_kind(text: &str) -> Result<AskedKind, String> {
    let form = || "--kind is GROUP/KIND, for example apps/Deployment or core/Secret".to_owned();
    let is_plain = |part: &str| !part.is_empty() && !part.contains(['/', '*']);
    let (group, kind) =
        text.split_once('/').filter(|(group, kind)| is_plain(group) && is_plain(kind)).ok_or_else(form)?;
    let api_version = if group == "core" { "v1".to_owned() } else { format!("{group}/v1") };
    Ok(AskedKind { api_version, kind: kind.to_owned() })
}

fn parse_account(text: &str) -> Result<Account, String> {
    let form = || "--service-account is NAMESPACE/NAME, for example shop/deployer".to_owned();
    let (namespace, name) = text.split_once('/').ok_or_else(form)?;
    let parse = |part: &str| part.parse::<Name>().map_err(|_| form());
    Ok(Account { namespace: parse(namespace)?, name: parse(name)? })
}

fn parse_namespace(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error| format!("BELLWETHER_NAMESPACE: {error}, for example bellwether-system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [("hub.example.com:8443", "hub.example.com", 8443), ("[::1]:443", "::1", 443)] {
            let address: HubAddress = text.parse().expect(text);
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for text in ["", "hub", "hub:", ":1", "hub:0", "hub:99999", "https://hub:1", "a b:1", "::1:443"] {
            let refused = text.parse::<HubAddress>().expect_err(text);
            assert!(refused.contains("BELLWETHER_HUB") && refused.contains("example"), "{refused}");
        }
    }

    #[test]
    fn a_fingerprint_may_be_written_as_openssl_does() {
        let plain: Fingerprint = FINGERPRINT.parse().expect("is one");
        let pairs: Vec<_> = FINGERPRINT.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();

        assert_eq!(pairs.join(":").to_uppercase().parse(), Ok(plain));
        assert_eq!(plain.to_string(), FINGERPRINT);
        assert!("9f86".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn a_bad_value_is_refused_with_the_variable_and_an_example() {
        let call = ["bellwether-agent", "--hub", "hub:1", "--ca-fingerprint", FINGERPRINT, "--namespace", "Not_A_Name"];

        let refused = Call::parse(call, None).expect_err("is no namespace").to_string();

        assert!(refused.contains("BELLWETHER_NAMESPACE") && refused.contains("bellwether-system"), "{refused}");
    }

    #[test]
    fn the_program_is_the_agent_unless_it_is_told_to_simulate() {
        let api_token = || Some(SecretString::from("bw_x"));
        let agent = ["bellwether-agent", "--hub", "hub:1", "--ca-fingerprint", FINGERPRINT];
        let simulate =
            ["bellwether-agent", "simulate", "--url", "https://[::1]:8443", "--ca", "ca.pem", "--count", "7"];

        assert!(matches!(Call::parse(agent, None), Ok(Call::Run(_))));
        let Ok(Call::Simulate(simulation)) = Call::parse(simulate, api_token()) else { panic!("it is to simulate") };
        assert_eq!((simulation.count, simulation.url.to_string().as_str()), (7, "[::1]:8443"));
        let refused = Call::parse(simulate, None).expect_err("has no token").to_string();
        assert!(refused.contains("BELLWETHER_TOKEN"), "{refused}");
        let refused = Call::parse(["bellwether-agent"], None).expect_err("says nothing").to_string();
        assert!(refused.contains("--hub"), "{refused}");
    }

    #[test]
    fn a_token_of_white_space_is_no_token() {
        use secrecy::ExposeSecret;

        assert!(token(" \n").is_none());
        assert_eq!(token("bw_x\n").as_ref().map(ExposeSecret::expose_secret), Some("bw_x"));
    }
}
