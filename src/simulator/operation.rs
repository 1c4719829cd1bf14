//! The operations behind a bearer token, and what each asks of its caller.

/// Named as the official SDKs name them, where they have it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    GetScript,
    GetScriptPage,
    GetScriptPages,
    GetScripts,
    GetScriptsDivisionviews,
    GetScriptsPublished,
    GetScriptsPublishedDivisionviews,
    GetScriptsPublishedDivisionviewVariables,
    GetScriptsPublishedScriptId,
    GetScriptsPublishedScriptIdPage,
    GetScriptsPublishedScriptIdPages,
    GetScriptsPublishedScriptIdVariables,
    GetScriptsUploadStatus,
    PostScriptExport,
    PostScriptsPublished,
    DeleteScript,
    PostAuthorizationDivisionObject,
    GetTokensMe,
    DeleteTokensMe,
    UploadScript,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GetScript => "getScript",
            Self::GetScriptPage => "getScriptPage",
            Self::GetScriptPages => "getScriptPages",
            Self::GetScripts => "getScripts",
            Self::GetScriptsDivisionviews => "getScriptsDivisionviews",
            Self::GetScriptsPublished => "getScriptsPublished",
            Self::GetScriptsPublishedDivisionviews => "getScriptsPublishedDivisionviews",
            Self::GetScriptsPublishedDivisionviewVariables => "getScriptsPublishedDivisionviewVariables",
            Self::GetScriptsPublishedScriptId => "getScriptsPublishedScriptId",
            Self::GetScriptsPublishedScriptIdPage => "getScriptsPublishedScriptIdPage",
            Self::GetScriptsPublishedScriptIdPages => "getScriptsPublishedScriptIdPages",
            Self::GetScriptsPublishedScriptIdVariables => "getScriptsPublishedScriptIdVariables",
            Self::GetScriptsUploadStatus => "getScriptsUploadStatus",
            Self::PostScriptExport => "postScriptExport",
            Self::PostScriptsPublished => "postScriptsPublished",
            Self::DeleteScript => "deleteScript",
            Self::PostAuthorizationDivisionObject => "postAuthorizationDivisionObject",
            Self::GetTokensMe => "getTokensMe",
            Self::DeleteTokensMe => "deleteTokensMe",
            Self::UploadScript => "uploadScript",
        }
    }

    /// Permissions combine by ANY in the service; each operation here asks for just one.
    pub(super) fn permission(self) -> Option<&'static str> {
        match self {
            Self::GetScript
            | Self::GetScriptPage
            | Self::GetScriptPages
            | Self::GetScripts
            | Self::GetScriptsUploadStatus
            | Self::PostScriptExport => Some("scripter:script:view"),
            Self::GetScriptsDivisionviews => Some("scripter:script:search"),
            Self::GetScriptsPublished
            | Self::GetScriptsPublishedScriptId
            | Self::GetScriptsPublishedScriptIdPage
            | Self::GetScriptsPublishedScriptIdPages
            | Self::GetScriptsPublishedScriptIdVariables => Some("scripter:publishedScript:view"),
            Self::GetScriptsPublishedDivisionviews | Self::GetScriptsPublishedDivisionviewVariables => {
                Some("scripter:publishedScript:search")
            }
            Self::PostScriptsPublished => Some("scripter:publishedScript:add"),
            Self::DeleteScript => Some("scripter:script:delete"),
            Self::UploadScript => Some("scripter:script:add"),
            Self::PostAuthorizationDivisionObject | Self::GetTokensMe | Self::DeleteTokensMe => None,
        }
    }

    /// Whether the operation is on the api host, with its quota, faults and small JSON bodies,
    /// and not on the upload host.
    pub(super) fn is_api(self) -> bool {
        self != Self::UploadScript
    }

    pub(super) fn takes_json(self) -> bool {
        matches!(self, Self::PostScriptExport | Self::PostScriptsPublished | Self::PostAuthorizationDivisionObject)
    }
}
