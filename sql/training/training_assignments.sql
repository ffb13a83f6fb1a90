/*---
description = "Training that learners are assigned to, as it is now, one row per assignment."
partition_by = "createdAtTime"
cluster_by = ["learner_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the assignment
  course['id'] AS course_id,                          -- the course; joins training_courses.id
  course['revisionId'] AS course_revisionId,          -- revision of the course
  learner['id'] AS learner_id,                        -- who learns; of type driver, joins fleet_drivers.id
  learner['type'] AS learner_type,                    -- driver or user
  status,                                             -- notStarted, inProgress or completed
  isOverdue,                                          -- whether it is late
  isCompletedLate,                                    -- whether it was completed late
  scorePercent,                                       -- result, in percent
  durationMinutes,                                    -- how long it takes, in minutes
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was assigned
  createdById,                                        -- who assigned it; joins fleet_users.id
  samsara_time(dueAtTime) AS dueAtTime,               -- until when it is to be done
  samsara_time(startedAtTime) AS startedAtTime,       -- when it was begun
  samsara_time(completedAtTime) AS completedAtTime,   -- when it was completed
  samsara_time(deletedAtTime) AS deletedAtTime,       -- when it was deleted
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  updatedById                                         -- who changed it; joins fleet_users.id
FROM raw.training_assignments
