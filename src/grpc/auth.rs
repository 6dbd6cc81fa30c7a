//! Who is calling, and whether they may: one table from method to permission.
//!
//! Invariants: every RPC of the contract has a row (a test compares it with the
//! descriptor); what has none is denied. A principal's text tells how it was
//! authenticated, so that no certificate can pass for a local user.
//!
//! Today every permission has the same rule: a Unix peer is served if it is root
//! or the daemon's own user, a peer with a client certificate is served, a peer of
//! an explicitly insecure listener is served. Deliberately absent: roles, tokens.

use std::{net::IpAddr, sync::Arc};

use tonic::Status;

use super::status::{self, Reason};

/// An authenticated caller: `uid:1000`, a SPIFFE ID or other URI, `dns:NAME`,
/// `cn:NAME`, or `insecure:ADDRESS`. Every request that reaches a handler has one
/// among its extensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(pub Arc<str>);

/// What a connection proved about its other end.
#[derive(Clone, Debug)]
pub enum Peer {
    /// By the kernel, when it connected.
    Unix {
        /// User of the connecting process.
        uid: u32,
    },
    /// By a client certificate that the client CA vouches for; `None` if it names
    /// nobody.
    Certificate(Option<Principal>),
    /// Nothing. The port is left out, so that a caller who reconnects is the same.
    Insecure(IpAddr),
}

/// What a method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// To ask for liveness and schema.
    Probe,
    /// To see state.
    View,
    /// To read output, which may hold secrets.
    Logs,
    /// To start, stop and signal what is defined.
    Operate,
    /// To define, to write to stdin, to end the daemon.
    Administer,
}

use Permission::{Administer, Logs, Operate, Probe, View};

/// Every method that is served.
const METHODS: &[(&str, &[(&str, Permission)])] = &[
    (
        "procession.v1.ProcessManager",
        &[
            ("GetServerInfo", View),
            ("CreateProcess", Administer),
            ("GetProcess", View),
            ("ListProcesses", View),
            ("BatchGetProcesses", View),
            ("UpdateProcess", Administer),
            ("ApplyProcess", Administer),
            ("BatchApplyProcesses", Administer),
            ("DeleteProcess", Administer),
            ("StartProcess", Operate),
            ("StopProcess", Operate),
            ("RestartProcess", Operate),
            ("SignalProcess", Operate),
            ("ReloadProcess", Operate),
            ("PauseProcess", Operate),
            ("ResumeProcess", Operate),
            ("ResetProcess", Operate),
            ("ExplainProcess", View),
            ("BatchControlProcesses", Operate),
            ("WaitProcess", View),
            ("WriteStdin", Administer),
            ("GetProcessStats", View),
            ("ListGroups", View),
            ("ShutdownServer", Administer),
            ("WatchProcesses", View),
            ("TailLogs", Logs),
            ("WatchProcessStats", View),
            ("AttachProcess", Administer),
        ],
    ),
    (
        "grpc.health.v1.Health",
        &[("Check", Probe), ("Watch", Probe)],
    ),
    (
        "grpc.reflection.v1.ServerReflection",
        &[("ServerReflectionInfo", Probe)],
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection",
        &[("ServerReflectionInfo", Probe)],
    ),
];

/// The permission that the method at `path` (`/package.Service/Method`) needs;
/// `None`: there is no such method.
#[must_use]
pub fn permission(path: &str) -> Option<Permission> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, methods) = METHODS.iter().find(|(name, _)| *name == service)?;
    let (_, permission) = methods.iter().find(|(name, _)| *name == method)?;
    Some(*permission)
}

/// Whether `peer` may call the method at `path` of a daemon of user `own_uid`.
///
/// # Errors
/// UNAUTHENTICATED without a peer or with a certificate that names nobody;
/// UNIMPLEMENTED for a method that does not exist, to those who may call others;
/// PERMISSION_DENIED else.
pub fn authorize(peer: Option<&Peer>, own_uid: u32, path: &str) -> Result<Principal, Status> {
    let Some(principal) = peer.and_then(Peer::principal) else {
        return Err(status::plain(
            Reason::NoCredentials,
            "no identity: connect to the Unix socket, or with a client certificate that has a URI, DNS name or common name",
            [],
        ));
    };
    let served = match peer {
        Some(Peer::Unix { uid }) => *uid == 0 || *uid == own_uid,
        Some(Peer::Certificate(_) | Peer::Insecure(_)) => true,
        None => false,
    };
    match (served, permission(path)) {
        (true, Some(_)) => Ok(principal),
        (true, None) => Err(Status::unimplemented("no such method")),
        (false, permission) => Err(denied(&principal, permission)),
    }
}

fn denied(principal: &Principal, permission: Option<Permission>) -> Status {
    status::plain(
        Reason::NotAllowed,
        format!(
            "{} is not allowed; call as root or as the user the daemon runs as",
            principal.0
        ),
        [
            ("principal", principal.0.to_string()),
            (
                "permission",
                permission.map_or("", Permission::as_str).into(),
            ),
        ],
    )
}

// === impl Peer ===

impl Peer {
    /// Who it is; `None` if that is not known.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        match self {
            Self::Unix { uid } => Some(Principal(format!("uid:{uid}").into())),
            Self::Certificate(principal) => principal.clone(),
            Self::Insecure(address) => Some(Principal(format!("insecure:{address}").into())),
        }
    }
}

// === impl Permission ===

impl Permission {
    /// Upper-case name, as in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "PROBE",
            Self::View => "VIEW",
            Self::Logs => "LOGS",
            Self::Operate => "OPERATE",
            Self::Administer => "ADMINISTER",
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;
    use crate::grpc::proto;

    const GET: &str = "/procession.v1.ProcessManager/GetProcess";

    fn reason(status: &Status) -> String {
        let details = status.get_error_details();
        details
            .error_info()
            .map(|i| i.reason.clone())
            .unwrap_or_default()
    }

    #[test]
    fn every_rpc_of_the_contract_has_a_row_and_no_row_is_left_over() {
        let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap();
        let mut described = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(permission(&format!("/{path}")).is_some(), "{path}");
                    described.push(path);
                }
            }
        }
        let (service, methods) = METHODS[0];
        for (method, _) in methods {
            assert!(
                described.contains(&format!("{service}/{method}")),
                "{method}"
            );
        }
        assert_eq!(described.len(), methods.len());
    }

    #[test]
    fn only_root_and_the_own_user_are_served_on_the_socket() {
        let call = |uid, path| authorize(Some(&Peer::Unix { uid }), 1000, path);
        assert_eq!(&*call(0, GET).unwrap().0, "uid:0");
        assert_eq!(&*call(1000, GET).unwrap().0, "uid:1000");
        for path in [GET, "/grpc.health.v1.Health/Check", "/x.Y/Z"] {
            let status = call(1001, path).unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{path}");
            assert_eq!(reason(&status), "NOT_ALLOWED");
        }
    }

    #[test]
    fn what_has_no_row_is_never_served() {
        for path in [
            "",
            "/",
            "/procession.v1.ProcessManager/Nope",
            "/procession.v1.ProcessManager",
            "GetProcess",
        ] {
            let status = authorize(Some(&Peer::Unix { uid: 0 }), 0, path).unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }

    #[test]
    fn without_identity_nobody_is_served() {
        for peer in [None, Some(&Peer::Certificate(None))] {
            let status = authorize(peer, 0, GET).unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            assert_eq!(reason(&status), "NO_CREDENTIALS");
        }
    }

    #[test]
    fn certificates_and_insecure_peers_are_served_under_their_names() {
        let named = Principal("spiffe://a/b".into());
        let peer = Peer::Certificate(Some(named.clone()));
        assert_eq!(authorize(Some(&peer), 0, GET).unwrap(), named);
        let peer = Peer::Insecure("127.0.0.1".parse().unwrap());
        let principal = authorize(Some(&peer), 0, GET).unwrap();
        assert_eq!(&*principal.0, "insecure:127.0.0.1");
    }
}
