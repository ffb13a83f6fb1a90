/*---
description = "The organisation of the token, one row, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the organisation
  name,                                               -- its name
  region,                                             -- where its data is: us, eu or ca
  carrierSettings['carrierName'] AS carrierSettings_carrierName, -- name of the carrier
  carrierSettings['dotNumber'] AS carrierSettings_dotNumber, -- DOT number of the carrier
  carrierSettings['mainOfficeAddress'] AS carrierSettings_mainOfficeAddress -- address of its main office
FROM raw.organization
