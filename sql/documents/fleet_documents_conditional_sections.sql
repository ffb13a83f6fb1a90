/*---
description = "Which answer brings up which further fields of a document, one row per document and section."
partition_by = "createdAtTime"
cluster_by = ["document_id"]
unique_key = ["document_id", "position"]
---*/
SELECT DISTINCT
  document_id,                                        -- the document; joins fleet_documents.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the document was created
  i - 1 AS position,                                  -- place among the sections of the document, from 0
  TRY_CAST(json_as_text(items[i], 'triggeringFieldIndex') AS BIGINT) AS triggeringFieldIndex, -- the multiple choice field; joins fleet_documents_fields.position
  json_as_text(items[i], 'triggeringFieldValue') AS triggeringFieldValue, -- the answer that brings up the fields
  TRY_CAST(json_as_text(items[i], 'conditionalFieldFirstIndex') AS BIGINT) AS conditionalFieldFirstIndex, -- position of the first of them
  TRY_CAST(json_as_text(items[i], 'conditionalFieldLastIndex') AS BIGINT) AS conditionalFieldLastIndex -- position of the last of them
FROM (
  SELECT *, unnest(range(1, 1 + coalesce(CAST(array_length(items) AS BIGINT), 0))) AS i
  FROM (
    SELECT id AS document_id, createdAtTime, json_get_array(conditionalFieldSections) AS items
    FROM raw.fleet_documents
  )
)
