/*---
description = "One row per user of the dashboard, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's user id
  name,                                               -- full name
  email,                                              -- address with which the user logs in
  authType,                                           -- default (password) or saml (single sign-on)
  samsara_time(expireAt) AS expireAt                  -- when the access ends; empty if it does not
FROM raw.fleet_users
