package atlassian

import "github.com/tokenreeve/tokenreeve/providers"

// HandOff returns the steps for what no API of the vendor's can do. The names of
// menus are those of Atlassian Administration.
func (p *Provider) HandOff(deed providers.Deed) []string {
	switch deed {
	case providers.DeedMint:
		return []string{
			"For a user's token: its owner opens https://id.atlassian.com/manage-profile/security/api-tokens, selects Create API token, gives it a name and an end within one year, and copies the secret to where it is used.",
			"For a service account's token: an organization admin opens https://admin.atlassian.com, selects Directory, Service accounts, the account, Create credentials, API token, chooses scopes and an end, and copies the secret to where it is used.",
			"To replace a token: once the new one works, revoke the old one (a user's with revoke_token).",
		}
	case providers.DeedRevokeServiceToken:
		return []string{
			"An organization admin opens https://admin.atlassian.com and selects Directory, Service accounts, then the account.",
			"There the admin finds the token by its name among the account's credentials, selects Revoke and confirms.",
		}
	case providers.DeedRotateOwnCredential:
		return []string{
			"An organization admin opens https://admin.atlassian.com and selects Organization settings, API keys, Create API key.",
			"The admin chooses no scopes for a key that serves user management; for a key that serves API Access alone, the scopes " +
				scopeReadTokens + " and " + scopeReadService + ", and " + scopeDeleteTokens + " and " + scopeDeleteService + " only if this server may revoke in bulk. A key lives one year at most.",
			"The operator puts the new key where the connection's credential (or user_management_credential) is read from; this server reads it again at the next 401 or start.",
			"Once a call works with the new key, the admin revokes the old one on the same page.",
		}
	default:
		return nil
	}
}
