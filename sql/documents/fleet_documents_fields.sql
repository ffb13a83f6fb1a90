/*---
description = "Filled-in fields of documents, one row per document and field."
partition_by = "createdAtTime"
cluster_by = ["document_id"]
unique_key = ["document_id", "position"]
---*/
SELECT DISTINCT
  document_id,                                        -- the document; joins fleet_documents.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the document was created
  driver_id,                                          -- the driver
  vehicle_id,                                         -- the vehicle
  i - 1 AS position,                                  -- place among the fields of the document, from 0
  json_as_text(items[i], 'label') AS label,           -- name of the field; several fields may have the same
  json_as_text(items[i], 'type') AS type,             -- kind of field, such as string, number, photo or signature
  json_as_text(items[i], 'value', 'stringValue') AS stringValue, -- text, of a string field
  TRY_CAST(json_as_text(items[i], 'value', 'numberValue') AS DOUBLE) AS numberValue, -- number, of a number field
  samsara_time(json_as_text(items[i], 'value', 'dateTimeValue', 'dateTime')) AS dateTimeValue, -- instant, of a dateTime field
  json_as_text(items[i], 'value', 'multipleChoiceValue') AS multipleChoiceValue, -- choices and whether each is selected, as JSON text
  json_as_text(items[i], 'value', 'barcodeValue') AS barcodeValue, -- scanned barcodes, as JSON text
  json_as_text(items[i], 'value', 'photoValue') AS photoValue, -- photos, as JSON text; their addresses expire
  json_as_text(items[i], 'value', 'scannedDocumentValue') AS scannedDocumentValue, -- scans, as JSON text; their addresses expire
  json_as_text(items[i], 'value', 'signatureValue', 'id') AS signatureValue_id, -- the signature, of a signature field
  json_as_text(items[i], 'value', 'signatureValue', 'name') AS signatureValue_name, -- who signed
  samsara_time(json_as_text(items[i], 'value', 'signatureValue', 'signedAtTime')) AS signatureValue_signedAtTime, -- when
  json_as_text(items[i], 'value', 'signatureValue', 'url') AS signatureValue_url -- image of the signature; the address expires
FROM (
  SELECT *, unnest(range(1, 1 + coalesce(CAST(array_length(items) AS BIGINT), 0))) AS i
  FROM (
    SELECT
      id AS document_id,
      createdAtTime,
      driver['id'] AS driver_id,
      vehicle['id'] AS vehicle_id,
      json_get_array(fields) AS items
    FROM raw.fleet_documents
  )
)
