/*---
description = "One row per person whom alerts may notify, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's contact id
  firstName,                                          -- first name
  lastName,                                           -- last name
  email,                                              -- e-mail address
  phone                                               -- phone number, as entered
FROM raw.contacts
