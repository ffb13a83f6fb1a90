/*---
description = "One row per kind of document that drivers may fill in, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- the document type
  name,                                               -- its name
  orgId,                                              -- organisation that it belongs to
  fieldTypes,                                         -- its fields, as JSON text
  conditionalFieldSections                            -- which answer brings up which further fields, as JSON text
FROM raw.fleet_document_types
